"""A purge: gone everywhere, nothing else touched, and a certificate that says what is true."""

import argparse
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from purge_kit import NOW, PATH, PLATE, SECOND, City, birth, make_city, make_frame, series
from sqlalchemy import insert, select

from cloud.births import Births
from cloud.cli_hub import add_parsers
from cloud.commands_purge import as_text, do, purge_handler
from cloud.commands_state import state_of
from cloud.config import CloudConfig, load
from cloud.hub.alert_store import alerts_table
from cloud.purge import Order, PendingPurges, PurgeBook, digest
from cloud.quarantine import Entry as Kept
from cloud.tail import TailReader
from contract import command, frame
from contract.command import Reply
from contract.errors import ConfigError, StoreUnavailable
from contract.readings import Kind
from contract.topics import GatewayPath, TopicKind

PLATES = Order("stream", "c/d/s/g/cam/plate", "court order 7", "admin police")


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[City]:
    made = await make_city(tmp_path)
    yield made
    made.close()


def reply(city: City, pending: PendingPurges, purge_id: str, *, done: bool = True, readings: int = 5) -> None:
    del city
    pending.heard(PATH.topic(TopicKind.REPLY), command.encode(Reply(purge_id, done, readings, "2 frames")))


def pending_of(city: City, sent: list[tuple[str, bytes]]) -> PendingPurges:
    def publish(topic: str, payload: bytes) -> bool:
        sent.append((topic, payload))
        return True

    return PendingPurges(city.purger, publish, now_ns=city.clock.now_ns)


async def test_a_stream_goes_everywhere_and_the_certificate_closes_when_its_gateway_has_answered(city: City) -> None:
    plates, speed = series("plate", Kind.TEXT), series("speed")
    city.store.fill(plates, speed, series("plate", Kind.INT))
    city.store.put(plates, {NOW + 5: ("later", 0)})
    city.passed([make_frame(1), make_frame(2)])
    document = await city.purger.start(PLATES, city.catalogue.all())
    assert document["places"]["store"] == {
        "before": 20, "destroyed": 20, "after": 0, "detail": "points of 2 series",
    }  # fmt: skip
    assert document["places"]["tail"]["destroyed"] == 2
    assert (document["complete"], document["gateways"][0]["state"]) == (False, "pending")
    assert [point.value for point in await city.store.read(plates, 0, 2**62)] == ["later"]
    assert len(await city.store.read(speed, 0, 2**62)) == 10
    sent: list[tuple[str, bytes]] = []
    pending = pending_of(city, sent)
    await pending.turn()
    ((topic, payload),) = sent
    assert topic == "weinao/v1/cmd/c/d/s/g"
    assert command.decode_command(payload) == command.Command(document["id"], "purge", NOW, [("cam", "plate")])
    city.store.fill(plates, count=3, last_ns=NOW - 50 * SECOND)  # it was on its way
    city.clock.pass_s(31)
    reply(city, pending, document["id"])
    await pending.turn()
    final = city.purger.book.get(document["id"])
    assert final is not None
    assert (final["complete"], final["gateways"][0]["state"]) == (True, "confirmed")
    assert final["places"]["store"]["destroyed"] == 23
    assert final["sha256"] == digest(final)
    assert city.trail.lines[-1][3]["sha256"] == final["sha256"]
    assert [line[1] for line in city.trail.lines] == ["purge ordered", "purge", "purge"]
    assert len(city.forgotten) == 2
    before = len(sent)
    city.clock.pass_s(1000)
    await pending.turn()
    assert len(sent) == before
    text = as_text(final)
    assert "COMPLETE" in text
    assert "court order 7" in text
    assert "c/d/s/g: confirmed, 5 readings; 2 frames" in text


async def test_a_gateway_is_told_again_until_it_is_done_and_an_answer_to_nothing_changes_nothing(city: City) -> None:
    document = await city.purger.start(PLATES, city.catalogue.all())
    sent: list[tuple[str, bytes]] = []
    pending = pending_of(city, sent)
    pending.heard("weinao/v1/reply/c/d/s/g", b"rubbish")
    pending.heard("nonsense", b"")
    pending.heard("weinao/v1/reply/c/d/s/other", command.encode(Reply(document["id"], done=True)))
    reply(city, pending, document["id"], done=False)
    reply(city, pending, "p-unknown")
    await pending.turn()
    await pending.turn()
    assert (len(sent), pending.bad_replies) == (1, 2)
    city.clock.pass_s(31)
    await pending.turn()
    assert len(sent) == 2
    shown = city.purger.book.get(document["id"])
    assert shown is not None
    assert (shown["complete"], shown["gateways"][0]["readings"]) == (False, 5)


async def test_a_database_that_is_away_leaves_a_purge_that_goes_on_by_itself(city: City) -> None:
    city.store.fill(series("plate", Kind.TEXT))
    pending = pending_of(city, [])
    columns = city.store.columns

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    city.store.columns = away
    with pytest.raises(StoreUnavailable):
        await city.purger.start(PLATES, city.catalogue.all())
    (purge_id,) = city.purger.book.open()
    city.store.columns = columns
    reply(city, pending, purge_id)
    await pending.turn()
    assert city.purger.book.open() == [purge_id]  # whoever began it may be at it still
    city.clock.pass_s(121)
    await pending.turn()
    assert city.purger.book.open() == []


async def test_what_is_still_there_is_never_certified_away(city: City) -> None:
    city.store.fill(series("plate", Kind.TEXT))
    city.store.stubborn = True
    pending = pending_of(city, [])
    document = await city.purger.start(PLATES, city.catalogue.all())
    reply(city, pending, document["id"])
    await pending.turn()
    shown = city.purger.book.get(document["id"])
    assert shown is not None
    assert (shown["complete"], shown["places"]["store"]["after"]) == (False, 10)
    assert "NOT COMPLETE" in as_text(shown)


async def test_scopes_mean_what_their_names_say(tmp_path: Path) -> None:
    other = GatewayPath("c", "d", "s", "h")
    city = await make_city(tmp_path, None, birth(), birth("h", "police"))
    everything = [series("speed"), series("power", device="meter"), series("speed", path=other)]
    city.store.fill(*everything, count=4)
    gone = series("old", device="scrapped")
    city.store.fill(gone, count=2)

    async def left() -> list[int]:
        return [len(await city.store.read(one, 0, 2**62)) for one in [*everything, gone]]

    await city.purger.start(Order("device", "c/d/s/g/scrapped", "r", "b"), city.catalogue.all())
    assert await left() == [4, 4, 4, 0]
    document = await city.purger.start(Order("department", "police", "r", "b"), city.catalogue.all())
    assert await left() == [0, 4, 0, 0]
    assert [one["gateway"] for one in document["gateways"]] == ["c/d/s/g", "c/d/s/h"]
    await city.purger.start(Order("gateway", "c/d/s/g", "r", "b"), city.catalogue.all())
    assert await left() == [0, 0, 0, 0]
    assert city.purger.book.gateways(city.purger.book.open()[-1])[0].streams == frozenset()
    for kind, name in (("stream", "c/d/s/g/cam/none"), ("gateway", "g"), ("department", ""), ("planet", "x")):
        with pytest.raises(ConfigError):
            await city.purger.start(Order(kind, name, "r", "b"), city.catalogue.all())
    city.close()


async def test_quarantine_keeps_what_is_of_others_and_destroys_what_cannot_be_read(city: City) -> None:
    listed = json.dumps(
        {"boot": 1, "sequence": 2, "readings": [["cam/plate", 9 * NOW, PLATE], ["meter/power", 1, 2]]},
        ensure_ascii=False,
    )
    mine = json.dumps({"boot": 1, "sequence": 3, "readings": [["cam/plate", 5, PLATE]]}, ensure_ascii=False)
    held = [
        Kept(str(PATH), "implausible_time", "d", 2, listed.encode()),
        Kept(str(PATH), "same_time_twice", "d", 1, mine.encode()),
        Kept(str(PATH), "rejected_frame", "d", 0, make_frame(4)),
        Kept(str(PATH), "rejected_frame", "d", 0, make_frame(5, epoch=1)),  # a catalogue that nobody knows
        Kept(str(PATH), "bad_data", "d", 0, b"\x02 rubbish"),
        Kept(str(PATH), "bad_birth", "d", 0, b'{"version": 9}'),
        Kept("c/d/s/other", "bad_data", "d", 0, b"\x02 rubbish"),
    ]
    quarantine = city.quarantine(*held)
    assert any(PLATE.encode() in path.read_bytes() for path in city.folder.glob("quarantine.sqlite*"))
    document = await city.purger.start(PLATES, city.catalogue.all())
    place = document["places"]["quarantine"]
    assert (place["before"], place["destroyed"], place["after"]) == (5, 5, 0)
    assert place["detail"] == "5 readings, and 2 frames destroyed whole that could not be read"
    rest = {entry.reason + entry.gateway: entry for entry in quarantine.newest()}
    assert sorted(rest) == [
        "bad_birthc/d/s/g",
        "bad_datac/d/s/other",
        "implausible_timec/d/s/g",
        "rejected_framec/d/s/g",
    ]
    assert json.loads(rest["implausible_timec/d/s/g"].payload)["readings"] == [["meter/power", 1, 2]]
    kept = frame.decode(rest["rejected_framec/d/s/g"].payload)
    assert {stream for part in kept.tables for stream in part.streams.tolist()} == {0, 2}
    assert quarantine.put(held[:1], NOW) == 0  # a copy that comes again is known, and brings nothing back
    totals = quarantine.totals()
    assert totals.entries == 4
    assert totals.bytes == sum(len(entry.payload) + 200 for entry in rest.values())
    quarantine.close()
    _holds_no_plate(city.folder / "quarantine.sqlite")


def _holds_no_plate(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        assert PLATE.encode() not in path.read_bytes(), path


async def test_what_is_put_aside_after_the_purge_is_new(city: City) -> None:
    late = json.dumps({"boot": 1, "sequence": 3, "readings": [["cam/plate", NOW + 9, "x"]]}).encode()
    quarantine = city.quarantine(
        Kept(str(PATH), "same_time_twice", "d", 1, late),
        Kept(str(PATH), "bad_data", "d", 0, b"\x02 rubbish"),
        now_ns=NOW + 10,
    )
    document = await city.purger.start(PLATES, city.catalogue.all())
    assert document["places"]["quarantine"]["before"] == 0
    assert quarantine.totals().entries == 2
    quarantine.close()


async def test_the_tail_keeps_its_numbers_and_the_others_readings(city: City) -> None:
    city.passed([make_frame(1), make_frame(2, epoch=1), make_frame(3, first_ns=NOW + SECOND)])
    await city.purger.start(PLATES, city.catalogue.all())
    reader = TailReader(city.folder / "tail.sqlite")
    rows = reader.after(0)
    assert [row.id for row in rows] == [1, 2, 3]
    assert reader.bounds() == (1, 3)
    assert rows[1].payload == b""
    assert rows[2].payload == make_frame(3, first_ns=NOW + SECOND)
    kept = frame.decode(rows[0].payload)
    assert sum(part.count() for part in kept.tables) == 6
    assert PLATE not in str([part.readings() for part in kept.tables])
    reader.close()


async def test_alerts_stay_without_their_values(city: City) -> None:
    number = next(one.number for one in city.catalogue.all() if one.stream == "plate")
    row = {
        "rule": "r", "kind": "threshold", "severity": "warning", "subject_kind": "stream", "subject": "x",
        "number": number, "message": f"saw {PLATE}", "value": 3.5, "streams": 1, "detail": '{"value": 3.5}',
        "raised_ns": NOW - 5,
    }  # fmt: skip
    with city.database.begin() as db:
        db.execute(insert(alerts_table), [row, {**row, "number": number + 100}, {**row, "raised_ns": NOW + 5}])
    document = await city.purger.start(PLATES, city.catalogue.all())
    assert document["places"]["alerts"]["destroyed"] == 1
    with city.database.reading() as db:
        rows = db.execute(select(alerts_table).order_by(alerts_table.c.id)).fetchall()
    assert [(one.value, one.detail) for one in rows] == [(None, "{}"), (3.5, row["detail"]), (3.5, row["detail"])]
    assert rows[0].message == "(purged)"


async def test_the_local_socket_starts_one_and_says_what_is_wrong(city: City) -> None:
    city.store.fill(series("speed"))
    handler = purge_handler(city.purger, city.catalogue.all)
    answer = handler({"kind": "stream", "name": "c/d/s/g/cam/speed", "reason": "r", "by": "me"})
    assert not isinstance(answer, dict)
    assert (await answer)["certificate"]["places"]["store"]["destroyed"] == 10
    for asked in (
        {},
        {"kind": "stream", "name": 5, "reason": "r", "by": "b"},
        {"kind": "stream", "name": "none", "reason": "r", "by": "b"},
    ):
        wrong = handler(asked)
        assert not isinstance(wrong, dict)
        with pytest.raises(ValueError, match=r"expected texts|nothing is known"):
            await wrong


def _cloud(folder: Path) -> CloudConfig:
    """A cloud with a store of its own, a few points in it, and no process that runs."""
    text = f"""
store: {{kind: embedded, path: {folder}/store.duckdb}}
data: {{directory: {folder}}}
hub: {{}}
"""
    (folder / "cloud.yaml").write_text(text)
    seen = Births(folder / "births.sqlite")
    seen.take(PATH, birth().encode())
    seen.close()
    return load(folder / "cloud.yaml")


def run_purge(config: CloudConfig, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    return do(parser.parse_args(["purge", "cloud.yaml", *arguments]), config)


def test_the_command_works_alone_and_exits_1_until_the_gateway_has_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _cloud(tmp_path)
    asked = ("--stream", "c/d/s/g/cam/plate", "--reason", "court order 7", "--by", "me", "--wait", "0")
    with pytest.raises(ConfigError, match="--yes"):
        run_purge(config, *asked)
    with pytest.raises(ConfigError, match="--reason: needed"):
        run_purge(config, "--stream", "x", "--by", "me", "--yes")
    with pytest.raises(ConfigError, match="is called city/district"):
        run_purge(config, "--stream", "x", "--by", "me", "--reason", "r", "--yes")
    assert run_purge(config, *asked, "--yes", "--certificate", str(tmp_path / "c.json")) == 1
    document = json.loads((tmp_path / "c.json").read_text())
    assert digest(document) == document["sha256"]
    assert "c/d/s/g: pending, 0 readings; not reached yet" in capsys.readouterr().out
    assert run_purge(config, "--id", document["id"], "--json") == 1
    assert json.loads(capsys.readouterr().out)["why"] == "court order 7"
    database = state_of(config)
    PurgeBook(database).save({**document, "complete": True, "sha256": digest({**document, "complete": True})})
    database.close()
    assert run_purge(config, "--id", document["id"]) == 0
    with pytest.raises(ConfigError, match="no purge"):
        run_purge(config, "--id", "p-none")
