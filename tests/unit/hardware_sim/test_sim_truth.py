import math
from pathlib import Path

import pytest

from hardware_sim import truth
from hardware_sim.truth import Log, Record


def written(path: Path, *records: Record) -> Path:
    log = Log(path)
    for record in records:
        log.add(record)
    log.close()
    return path


def test_every_key_is_read_back(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.tsv",
        Record("meter", "input:70", "42480000"),
        Record("lights", "coil:3:10", "0502"),
        Record("dust", "values", '{"pm1":3.0,"pm10":NaN}'),
    )
    rows = [(device, key, value) for _, device, key, value in truth.read(path)]
    assert rows[:2] == [("meter", "input:70", 0x4248), ("meter", "input:71", 0)]
    assert [value for device, _, value in rows if device == "lights"] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert rows[2][1] == "coil:3"
    assert rows[12] == ("dust", "pm1", 3.0)
    assert math.isnan(rows[13][2])


def test_times_are_utc_nanoseconds_in_order(tmp_path: Path) -> None:
    import time

    before = time.time_ns()
    path = written(tmp_path / "t.tsv", *[Record("d", "input:0", "0001")] * 100)
    times = [row[0] for row in truth.read(path)]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time_ns()


def test_late_responses_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "t.tsv", Record("d", "input:0", "0001"), Record("d", "input:0 late", "0002"))
    assert [row[3] for row in truth.read(path)] == [1]
    assert [row[3] for row in truth.read(path, late=True)] == [1, 2]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "t.tsv", *[Record("d", "input:0", "00010002")] * 2)
    path.write_bytes(path.read_bytes()[:-3])
    assert [row[3] for row in truth.read(path)] == [1, 2]


@pytest.mark.parametrize(
    "line", ["x\td\tinput:0\t0001\n", "1\td\tinput\t0001\n", "1\td\tinput:0\tzz\n", "1\td\n", "\n"]
)
def test_what_is_not_a_truth_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("1\td\tinput:0\t0001\n" + line)
    with pytest.raises(ValueError, match=r"t\.tsv:2"):
        list(truth.read(path))


def test_lines_wait_for_a_flush_but_not_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    log = Log(path)
    log.add(Record("d", "input:0", "0001"))
    assert path.stat().st_size == 0
    log.flush()
    assert path.stat().st_size > 0
    for _ in range(truth.FLUSH_BYTES // 400 + 1):
        log.add(Record("d", "input:0", "00" * 200))
    assert path.stat().st_size >= truth.FLUSH_BYTES
    log.close()


def test_without_a_file_it_counts() -> None:
    log = Log(None)
    log.add(Record("d", "input:0", "0001"))
    log.close()
    assert log.responses == 1
