import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from cloud_frames import PATH, ScriptedGateway, make_birth

from cloud.cli import main
from cloud.ledger import Ledger, Receipt
from cloud.ledger_book import receipt
from contract import local_socket


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cloud.yaml"
    file.write_text("store:\n  kind: embedded\ndata:\n  directory: d\n")
    return file


def fill(folder: Path, *, leave_out: int | None = None) -> Ledger:
    ledger = Ledger(folder / "d" / "ledger.sqlite")
    gateway = ScriptedGateway(make_birth(2))
    rows_of = ledger.rows_of(PATH, gateway.birth)
    for number in range(3):
        made = gateway.frame(2, missed=1)
        kept = [(rows_of, np.array([2, 2], dtype=np.int64))]
        if number != leave_out:
            book = receipt(made, rows_of, kept, [])
            ledger.commit([Receipt(PATH, 1, made.header.sequence, made.header.time_base_ns, book)])
    return ledger


def test_check_touches_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config)]) == 0
    assert "fine; broker 127.0.0.1:8883, store embedded" in capsys.readouterr().out
    assert [file.name for file in config.parent.iterdir()] == ["cloud.yaml"]


def test_a_wrong_config_is_2_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "bad.yaml").write_text("store: {kind: embeded}\ndata: {directory: d}\n")
    assert main(["run", str(tmp_path / "bad.yaml")]) == 2
    said = capsys.readouterr().err
    assert "none.yaml: no such file" in said
    assert "bad.yaml:1:" in said


def test_the_ledger_of_a_stopped_collector_is_read_from_its_file(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(config.parent).close()
    assert main(["ledger", str(config)]) == 0
    said = capsys.readouterr().out
    assert "3 timeout" in said
    assert said.splitlines()[-1] == (
        "ledger: 2 streams, expected 18 = stored 12 + explained 6, in flight 0, unexplained 0: closed"
    )
    assert main(["ledger", str(config), "--json", "--stream", "s1", "--hours"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["stream"], row["expected"], row["explained"]) for row in told["streams"]] == [("s1", 9, 3)]
    assert [(row["stream"], row["stored"]) for row in told["hours"]] == [("s1", 6)]


def test_an_open_ledger_is_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config.parent, leave_out=1).close()
    assert main(["ledger", str(config)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("in flight 6 (1 frames), unexplained 0: OPEN")


def test_no_ledger_and_no_process_are_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(config)]) == 1
    assert main(["status", str(config)]) == 1
    said = capsys.readouterr().err
    assert "has a collector run here?" in said
    assert "is it running?" in said


async def test_a_running_process_is_asked_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = config.parent / "elsewhere"
    ledger = fill(elsewhere)
    asked: list[dict[str, object]] = []

    def answer(request: dict[str, object]) -> dict[str, object]:
        asked.append(request)
        return ledger.report().as_json()

    (config.parent / "d").mkdir()
    async with local_socket.serve(config.parent / "d" / "status.sock", {"ledger": answer}):
        code = await asyncio.to_thread(main, ["ledger", str(config), "--stream", "x"])
    assert code == 0
    assert asked[0]["stream"] == "x"
    assert "expected 18" in capsys.readouterr().out
