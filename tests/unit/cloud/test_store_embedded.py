"""The embedded store: what a kill, a second process, a foreign file and a wrong query do to it."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import duckdb
import numpy as np
import pytest

from cloud.stores import duckdb_file
from cloud.stores.base import FramePoints, Selector, Series
from cloud.stores.embedded import EmbeddedStore
from contract.errors import ConfigError, StoreUnavailable
from contract.readings import Kind, Table
from contract.topics import GatewayPath

PATH = GatewayPath("c", "d", "s", "g")
SERIES = Series(PATH, "D", "S", "q", "1", Kind.INT)
ALL = Selector()
KEY = ("g", "D", "S")

WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_embedded import EmbeddedStore, frame
async def main():
    store = EmbeddedStore(Path(sys.argv[1]))
    await store.open()
    sequence = 0
    while True:
        await store.write([frame(sequence, rows=50)])
        print(sequence, flush=True)
        sequence += 1
asyncio.run(main())
"""


def frame(sequence: int, *, boot: int = 1, rows: int = 2, series: Series = SERIES) -> FramePoints:
    times = np.arange(rows, dtype=np.int64) + sequence * rows
    values = np.arange(rows, dtype=np.int64).reshape(rows, 1)
    table = Table(Kind.INT, np.array([1], np.int32), times, values, np.zeros((rows, 1), np.uint8))
    return FramePoints(PATH, boot, sequence, (table,), ((series,),))


async def opened(path: Path) -> EmbeddedStore:
    store = EmbeddedStore(path)
    await store.open()
    return store


async def python(code: str, *arguments: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *map(str, arguments)), stdout=PIPE, stderr=PIPE
    )


async def test_what_write_returned_for_survives_a_kill_and_is_not_stored_twice(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "store.duckdb"
    process = await python(WRITER, path, Path(__file__).parent)
    assert process.stdout is not None
    for _ in range(30):
        returned = int(await process.stdout.readline())
    process.kill()
    await process.communicate()
    store = await opened(path)
    kept = (await store.count(ALL))[KEY]
    assert kept >= (returned + 1) * 50
    assert kept % 50 == 0  # whole frames only
    await store.write([frame(sequence, rows=50) for sequence in range(returned + 1)])
    assert (await store.count(ALL))[KEY] == kept
    await store.close()


async def test_receipts_outlive_a_restart_and_stay_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "COMPACT_AFTER", 20)
    store = await opened(tmp_path / "s")
    for sequence in range(100):
        await store.write([frame(sequence), frame(sequence), frame(sequence, boot=2**63)])
    [(rows,)] = await store.query("SELECT count(*) FROM receipts")
    assert rows <= 22
    await store.close()
    store = await opened(tmp_path / "s")
    await store.write([frame(sequence) for sequence in range(101)])
    assert await store.count(ALL) == {KEY: 2 * 201}
    await store.close()


async def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    code = (
        "import asyncio, sys; from pathlib import Path; from cloud.stores.embedded import EmbeddedStore\n"
        "asyncio.run(EmbeddedStore(Path(sys.argv[1])).open())"
    )
    process = await python(code, tmp_path / "s")
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"ConfigError" in said
    assert b"another process has this store open" in said
    await store.close()


async def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database " * 500)
    with duckdb.connect(str(tmp_path / "newer")) as newer:
        newer.execute("CREATE TABLE about(version INTEGER); INSERT INTO about VALUES (99)")
    with duckdb.connect(str(tmp_path / "other")) as other:
        other.execute("CREATE TABLE series(name VARCHAR); INSERT INTO series VALUES ('x')")
    (tmp_path / "file").touch()
    for name, said in (("text", "cannot be opened"), ("newer", "format 99"), ("other", "not a store"), ("file/x", "x")):
        with pytest.raises(ConfigError, match=said):
            await opened(tmp_path / name)


async def test_queries_read_and_nothing_else(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write([frame(0)])
    assert await store.query("SELECT sum(count) FROM points WHERE time_ns >= ?", [0]) == [(1,)]
    secret = tmp_path / "secret"
    secret.write_text("x")
    for sql in (
        "DELETE FROM points",
        "SELECT 1; DELETE FROM points",
        "COMMIT; DELETE FROM points",
        f"SELECT * FROM read_text('{secret}')",  # noqa: S608
        f"COPY points TO '{secret}.csv'",
        "SELECT * FROM PATH",
        "nonsense",
    ):
        with pytest.raises(StoreUnavailable):
            await store.query(sql)
    assert await store.count(ALL) == {KEY: 2}
    await store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.count(ALL)
    assert not Path(f"{secret}.csv").exists()


async def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    new = Series(PATH, "D", "other", "q", "1", Kind.INT)
    good = frame(0, series=new)
    broken = FramePoints(PATH, -1, 1, good.tables, good.series)  # no column holds this boot
    with pytest.raises((StoreUnavailable, OverflowError)):
        await store.write([good, broken])
    assert await store.count(ALL) == {}
    await store.write([frame(0), frame(1, series=new)])
    assert await store.count(ALL) == {KEY: 2, ("g", "D", "other"): 2}
    assert [one.stream for one in await store.series()] == ["S", "other"]
    await store.close()


async def test_columns_give_a_point_that_was_stored_twice_once(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write([frame(0, rows=5), frame(0, rows=5, boot=2), frame(0, rows=5, boot=3)])
    assert (await store.count(ALL))[KEY] == 15
    for limit in range(1, 7):
        found = await store.columns(SERIES, 0, 2**63, limit=limit)
        assert found.times.tolist() == list(range(5))[:limit]
        assert found.values.tolist() == list(range(5))[:limit]
    await store.close()


async def test_a_deleted_series_gives_its_number_to_nobody_else(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    first, second, third = (Series(PATH, "D", name, "q", "1", Kind.INT) for name in ("first", "second", "third"))
    await store.write([frame(0, series=first), frame(1, series=second)])
    assert await store.delete(first) == 2
    await store.write([frame(2, series=third), frame(3, series=first)])
    assert await store.count(ALL) == {("g", "D", name): 2 for name in ("first", "second", "third")}
    await store.close()
    store = await opened(tmp_path / "s")
    await store.write([frame(4, series=first)])
    assert await store.count(ALL) == {("g", "D", "first"): 4, ("g", "D", "second"): 2, ("g", "D", "third"): 2}
    assert await store.delete(Series(PATH, "D", "first", "q", "another unit", Kind.INT), before_ns=7) == 1
    await store.close()
