"""The technician's page on a real gateway: who gets in, what it says of an ill device, a test, and the sheet."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from city import VALUES, City, Influx
from edited_city import assert_closed, edited_city
from programs import ask
from servers import InfluxDB, Mosquitto
from vision_kit import eventually, status

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]
PASSWORD = "lamp post 7"  # noqa: S105 - of a test


class Page:
    """A visitor of the page of one gateway."""

    def __init__(self, town: City) -> None:
        self.town = town
        eventually(lambda: bool((status(town.folder)["page"] or {}).get("port")), 15, "the page listens")
        port = status(town.folder)["page"]["port"]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def post(self, path: str, **fields: str) -> httpx.Response:
        origin = {"origin": str(self.client.base_url).rstrip("/")}
        return self.client.post(path, data=fields, headers=origin, follow_redirects=True)

    def log_in(self) -> None:
        assert self.post("/login", password=PASSWORD).url.path == "/"

    def form_token(self, path: str) -> str:
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.client.get(path).text)
        assert found is not None
        return found[1]


@pytest.fixture
def page(tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> Iterator[Page]:
    (tmp_path / "page-password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    section = "\npage: {address: 127.0.0.1, port: 0, password_file: page-password}\n"
    influx = Influx(influxdb, influxdb.fresh_database())
    with edited_city(tmp_path, mosquitto, influx, lambda text: text + section) as town:
        made = Page(town)
        yield made
        made.client.close()


def broken(town: City, device: str, seconds: int) -> None:
    answer = ask("weinao-sim", "fault", "sim.sock", "timeout", device, "--seconds", str(seconds), folder=town.folder)
    assert answer.returncode == 0, answer.stderr


def test_a_technician_finds_what_is_wrong_tests_it_and_hands_over(page: Page) -> None:
    town = page.town
    assert page.client.get("/").headers["location"] == "/login"
    assert page.post("/login", password=PASSWORD[:-1]).status_code == 401
    page.log_in()

    home = page.client.get("/")
    assert "load-01" in home.text
    assert "default-src 'none'" in home.headers["content-security-policy"]
    assert "<script>" not in home.text

    broken(town, "load-03", 8)
    deadline_s = time.monotonic() + 15
    while "load-03" not in (said := page.client.get("/device/load-03").text) or "does not" not in said:
        assert time.monotonic() < deadline_s, said
        time.sleep(0.2)
    sentence = re.search(r"[Nn]o answer[^<]*unit 3 does not[^<]*", said)
    assert sentence is not None, said
    print(sentence[0])
    assert "应答" in page.client.get("/device/load-03?lang=zh").text

    time.sleep(8)
    token = page.form_token("/device/load-02?lang=en")
    tested = page.post("/device/load-02/test", token=token)
    assert tested.status_code == 200
    hexes = re.findall(r"(?:[0-9a-f]{2} ){5,7}[0-9a-f]{2}", tested.text)
    assert len(hexes) >= 2, "request and reply in hex"
    assert "v0" in tested.text

    assert "outbox" in page.client.get("/gateway").text.lower()
    sheet = page.post("/sheet", token=token, technician="Wang <b>Wei</b>", remarks="on site")
    assert "Wang &lt;b&gt;Wei&lt;/b&gt;" in sheet.text
    assert "load-10" in sheet.text

    foreign = page.client.post("/device/load-02/test", data={"token": token}, headers={"origin": "http://evil"})
    assert foreign.status_code == 403
    assert page.post("/device/load-02/test", token="0" * 64).status_code == 403
    verdict = town.finish()
    assert_closed(verdict, at_least=1_000)
    assert verdict.missing == VALUES, f"the test's own reading is published nowhere, everything else is: {verdict}"


def test_guessing_is_slow_and_large_bodies_are_refused(page: Page) -> None:
    codes = [page.post("/login", password=f"guess {number}").status_code for number in range(7)]
    assert codes[:4] == [401] * 4
    assert codes[-1] == 429
    assert page.post("/login", password=PASSWORD).status_code == 429
    assert page.post("/login", password="x" * 20_000).status_code == 413
    for path in ("/", "/device/load-01", "/gateway", "/sheet", "/assets/x/../../gateway.yaml", "/status"):
        answer = page.client.get(path)
        assert answer.status_code in {303, 404}, path
        assert "load-01" not in answer.text
