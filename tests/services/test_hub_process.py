"""The real hub process, asked everything that its OpenAPI document permits, and more, by schemathesis."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cloud_frames import PATH, ScriptedGateway, make_birth
from hub_kit import owned
from programs import Program, ask
from servers import Mosquitto, free_port

from cloud.births import Births
from contract.catalogue import Grade
from contract.topics import GatewayPath

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]
OTHER = GatewayPath("Changzhou", "Tianning", "First Street", "gw-2")
EXAMPLES = 12


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a hub with two gateways' streams, and an administrator's token."""
    folder = tmp_path_factory.mktemp("hub")
    port = free_port()
    with Mosquitto(folder / "broker") as broker:
        (folder / "cloud.yaml").write_text(
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            "store: {kind: embedded, path: cloud/store.duckdb}\n"
            "data: {directory: cloud}\n"
            f"hub: {{port: {port}}}\n",
            encoding="utf-8",
        )
        births = Births(folder / "cloud" / "births.sqlite")
        for birth in (owned(make_birth(3), "Works"), owned(make_birth(2, path=OTHER), "Water", Grade.RESTRICTED)):
            gateway = ScriptedGateway(birth)
            births.take(gateway.birth.path, gateway.birth.encode())
        births.close()
        words = (
            "token",
            "create",
            "cloud.yaml",
            "--department",
            "Works",
            "--purpose",
            "test",
            "--role",
            "admin",
            "--json",
        )
        answer = ask("weinao-cloud", *words, folder=folder)
        assert answer.returncode == 0, answer.stderr
        ready = folder / "hub.ready"
        with Program(
            folder, "hub", "weinao-cloud", "run", "cloud.yaml", "--ready-file", "hub.ready", ready=ready
        ) as program:
            yield f"http://127.0.0.1:{port}", json.loads(answer.stdout)["token"]
            assert program.stop() == 0, program.words()


def get(hub: tuple[str, str], path: str) -> httpx.Response:
    url, token = hub
    return httpx.get(f"{url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=20)


def test_no_question_makes_it_fail(hub: tuple[str, str], tmp_path: Path) -> None:
    url, token = hub
    deadline_s = time.monotonic() + 20
    while get(hub, "/api/v1/catalogue").json()["total"] < 5:
        assert time.monotonic() < deadline_s, "the births are not in the catalogue"
        time.sleep(0.1)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {token}", "--checks", "not_a_server_error,status_code_conformance",
            "--exclude-path", "/api/v1/live", "--exclude-path", "/api/v1/tokens", "--max-examples", str(EXAMPLES),
            "--request-timeout", "20", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=220,
    )  # fmt: skip
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_page_of_the_api_and_all_it_loads_come_from_here(hub: tuple[str, str]) -> None:
    page = get(hub, "/docs").text
    assert "http://" not in page.replace(hub[0], "")
    assert "https://" not in page
    for part in page.split('"'):
        if part.startswith("/static-offline-docs/"):
            assert get(hub, part).status_code == 200, part


def test_a_wrong_question_is_told_what_is_allowed(hub: tuple[str, str]) -> None:
    name = f"{PATH}/meter/s0".replace(" ", "%20")
    for path, parameter in (
        ("/api/v1/catalogue?limit=0", "limit"),
        ("/api/v1/catalogue?bbox=1,2,3", "bbox"),
        (f"/api/v1/history/{name}?start=yesterday", "start"),
        (f"/api/v1/history/{name}?interval=5m", "aggregate"),
        (f"/api/v1/history/{name}?interval=5m&aggregate=median", "aggregate"),
        ("/api/v1/quality?level=planet", "level"),
    ):
        answer = get(hub, path)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["parameter"].split(".")[0] == parameter, answer.text
    hidden = f"{OTHER}/meter/s0".replace(" ", "%20")
    refused = get(hub, f"/api/v1/history/{hidden}")
    assert (refused.status_code, refused.json()["ask"]) == (403, "Water@city.example")
