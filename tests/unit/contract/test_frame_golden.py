"""Frames written by earlier versions decode for ever: they wait on gateways' disks and in quarantine.

tests/cases/frames holds pairs: NAME.bin and NAME.json, what it means. Never change or delete one; a new format adds
pairs. `python tests/unit/contract/test_frame_golden.py NAME` writes the pair of a new case, never an old one again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import FrameError
from contract.frame import Counters, Frame, Gap, Header, decode, encode, redate, thin, with_sequence
from contract.readings import ABSENT, Kind, Quality, Reason, Table, gap, status

CASES = Path(__file__).resolve().parents[2] / "cases" / "frames"
BASE = 1_790_000_000_123_000_000
S = 1_000_000_000


def meaning(frame: Frame) -> dict[str, Any]:
    """The frame as JSON: doubles by their hexadecimal form, so that all but a NaN's payload can be read."""
    counters = frame.counters
    return {
        "header": {name: getattr(frame.header, name) for name in Header.__slots__},
        "tables": [
            {
                "kind": table.kind.value,
                "streams": table.streams.tolist(),
                "times": table.times.tolist(),
                "status": table.status.tolist(),
                "values": _cells(table),
            }
            for table in frame.tables
        ],
        "gaps": [[list(gap.streams), gap.first_ns, gap.last_ns, gap.count, int(gap.reason)] for gap in frame.gaps],
        "counters": counters and {name: getattr(counters, name).tolist() for name in Counters.__slots__},
    }


def _cells(table: Table) -> list[list[object]]:
    if table.kind is not Kind.FLOAT:
        return table.values.tolist()  # type: ignore[no-any-return]
    patterns = np.ascontiguousarray(table.values).view(np.uint64).tolist()
    return [[f"{pattern:016x}" for pattern in row] for row in patterns]


def _table(kind: Kind, ids: list[int], values: Any, codes: Any = 0, step_ns: int = S) -> Table:
    dtype = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: object}[kind]
    grid: np.ndarray = np.array(values, dtype=dtype)
    state = np.zeros(grid.shape, dtype=np.uint8)
    state[:] = codes
    times = BASE - 7_000_000 - np.arange(len(grid), dtype=np.int64)[::-1] * step_ns
    return Table(kind, np.array(ids, dtype=np.int32), times, grid, state)


def _counters(ids: list[int], due: list[int], left_out: list[int], until: list[int]) -> Counters:
    columns = (np.array(column, dtype=np.int64) for column in (due, left_out, left_out[::-1], until))
    return Counters(np.array(ids, dtype=np.int32), *columns)


def examples() -> dict[str, Frame]:
    """What the golden files were made from: the first five by version 1 and by version 2, the last by version 2."""
    frames = _examples_of_version_1()
    return {
        **frames,
        **{name.replace("v1", "v2"): frame for name, frame in frames.items()},
        "v2-shapes": _shapes(),
        "v2-one-row": Frame(frames["v1-live"].header, _one_row()),
    }


def _shapes() -> Frame:
    """Every way a column can be packed: constant, steps, second to fourth steps, high bytes, varints, all 64 bits."""
    at = np.arange(40, dtype=np.int64)
    noise = at * 2_654_435_761 % 4093
    columns = [
        at * 0 + 7,
        at * 123_456 - 5,
        at * at * 10_000 + noise,
        at**3 * 9_999 + noise,
        at**4 * 777 - noise,
        at * 2_654_435_761 % 2**32,
        at % 3 + (at == 20) * 2**40,
        np.cumsum(at * 40_503 % 65_536),
        np.where(at % 2, 2**63 - 1, -(2**63)),
        np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 40),
        np.cumsum(noise - 2_000),
        at % 5,
        np.cumsum(at % 4),
        np.cumsum(at % 3 - 1),
    ]
    times = BASE - at[::-1] * S
    good = np.zeros((40, 14), dtype=np.uint8)
    whole = Table(Kind.INT, np.arange(14, dtype=np.int32), times, np.stack(columns, axis=1), good)
    thirds = np.stack([at / 3, (at / np.float32(3)).astype(np.float64), at * at / 8, np.sqrt(at)], axis=1)
    real = Table(Kind.FLOAT, np.arange(14, 18, dtype=np.int32), times, thirds, good[:, :4])
    return Frame(Header(boot=5, sequence=6, epoch=7, time_base_ns=BASE), (whole, real))


def _one_row() -> tuple[Table, ...]:
    """A row a table, with numbers of a size in each."""
    first = _table(Kind.INT, [0, 1, 2, 3, 4], [[215, 216, 214, 215, 217]])
    large = [[100_003, 200_001, 300_002, 400_007, 500_004]]
    return first, Table(Kind.INT, first.streams + 5, first.times, np.array(large, dtype=np.int64), first.status)


def _examples_of_version_1() -> dict[str, Frame]:
    header = Header(boot=0x0123456789AB, sequence=70_000, epoch=0xCAFEBABE, time_base_ns=BASE)
    walk = np.round(20 + np.cumsum(np.random.default_rng(7).integers(-1, 2, (50, 3)), axis=0) / 10, 1)
    odd = [[np.nan, 1 / 3, -0.0], [np.inf, 2 / 3, 0.0], [-np.inf, 1e300, 1.5]]
    off = gap(Reason.TIMEOUT)
    doubt = status(Quality.UNCERTAIN, Reason.STUCK)
    last = BASE - 7_000_000
    return {
        "v1-empty": Frame(header),
        "v1-live": Frame(
            header,
            (
                _table(Kind.FLOAT, [0, 1, 2], [[20.1, 19.8, 230.4]]),
                _table(Kind.INT, [3, 4], [[1234, -5]]),
                _table(Kind.BOOL, [5], [[True]]),
                _table(Kind.TEXT, [6], [["开门 🚦"]]),
            ),
            (),
            _counters([0, 1, 2, 3, 4, 5, 6], [9000] * 7, [0] * 7, [last] * 7),
        ),
        "v1-batch": Frame(
            header,
            (
                _table(Kind.FLOAT, [0, 1, 2], walk),
                _table(Kind.TEXT, [9, 4], [["a", "b"], ["b", ""], ["a", "a"]] * 4),
                _table(Kind.BOOL, [10, 11], [[True, False], [True, True]] * 25),
            ),
            (),
            _counters([0, 1, 2, 4, 9], [50, 51, 52, 53, 54], [0, 1, 2, 3, 4], [last] * 5),
        ),
        "v1-odd": Frame(
            Header(2**48 - 1, 2**63 - 1, 2**32 - 1, BASE + 1, undated=True),
            (
                _table(Kind.FLOAT, [8, 2, 5], odd, [[0, doubt, 0], [0, 0, ABSENT], [off, 0, 0]], 999_999_937),
                _table(Kind.INT, [7], [[2**63 - 1], [-(2**63)], [0]]),
            ),
            (Gap((8, 2), BASE - 9 * S, BASE - S, 9, Reason.TIMEOUT), Gap((7,), BASE, BASE, 1, Reason.GATEWAY_OFF)),
        ),
        "v1-estimated": Frame(
            Header(1, 2, 3, BASE, estimated=True), (_table(Kind.INT, [1], [[1], [2]], [[0], [off]]),)
        ),
    }


@pytest.mark.parametrize("path", sorted(CASES.glob("*.bin")), ids=lambda path: path.stem)
def test_an_old_frame_decodes_for_ever(path: Path) -> None:
    assert meaning(decode(path.read_bytes())) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_the_golden_files_are_all_there() -> None:
    assert {path.stem for path in CASES.glob("*.bin")} >= set(examples())


@pytest.mark.parametrize("name", examples())
def test_a_golden_file_says_what_it_was_made_from(name: str) -> None:
    frame = examples()[name]
    again = decode((CASES / f"{name}.bin").read_bytes())
    assert meaning(again) == meaning(decode(encode(frame)))


@pytest.mark.parametrize("name", ["v1-odd", "v2-odd"])
def test_a_stored_frame_of_an_older_build_can_still_be_dated_and_numbered(name: str) -> None:
    stored = (CASES / f"{name}.bin").read_bytes()
    data = with_sequence(redate(stored, 10, estimated=False), 77)
    assert data[0] & 0x0F == stored[0] & 0x0F == int(name[1])
    assert decode(data).header == Header(2**48 - 1, 77, 2**32 - 1, BASE + 11)
    assert meaning(decode(data))["counters"] == meaning(decode(stored))["counters"]


def test_thinning_a_frame_of_an_older_build_keeps_its_readings() -> None:
    stored = (CASES / "v1-batch.bin").read_bytes()
    kept = frozenset(range(100))
    assert thin(stored, 2, kept) == stored
    with pytest.raises(FrameError, match="without counters"):
        thin(stored, 2, frozenset({9}))


def write(name: str) -> None:
    """Write a new pair; an old one is never written again."""
    data = encode(examples()[name])
    with (CASES / f"{name}.bin").open("xb") as file:
        file.write(data)
    text = json.dumps(meaning(decode(data)), ensure_ascii=False, indent=1)
    (CASES / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        write(wanted)
