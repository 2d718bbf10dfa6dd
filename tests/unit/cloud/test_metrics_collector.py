"""What a collector shows: the same numbers as its parts and its ledger, and a ledger's look that costs little."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cloud_frames import PATH, START_NS, ScriptedGateway, make_birth
from metrics_page import Answer, check, happens, scrape
from metrics_parts import SECRET, CollectorParts, wired_collector

from cloud import collector as collector_module
from cloud.intake import Message
from cloud.ledger import Ledger
from cloud.ledger_read import each_gateway, read_file
from cloud.metrics_ledger import DUTY, MAX_GATEWAYS, LedgerSums, LedgerWatch, write
from cloud.metrics_taps import CountedQuarantine, TimedSource
from cloud.quarantine import Entry
from cloud.states import State
from contract.errors import StoreUnavailable
from contract.metrics_text import Page
from contract.topics import GatewayPath, TopicKind

DATA, BIRTH = PATH.topic(TopicKind.DATA), PATH.topic(TopicKind.BIRTH)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[CollectorParts]:
    with wired_collector(tmp_path) as made:
        yield made


async def page_of(parts: CollectorParts) -> Answer:
    text = (await parts.metrics.page()).decode()
    check(text)
    assert SECRET not in text
    return Answer(200, {}, text)


async def test_a_page_tells_what_came_and_what_became_of_it(parts: CollectorParts) -> None:
    gateway = ScriptedGateway(make_birth(2), start_ns=START_NS - 5 * 10**17)
    parts.store.refuses = lambda stream, _time_ns: "field type conflict" if stream == "s1" else None
    one = gateway.payload(3)
    payloads = [gateway.birth.encode(), one, one, gateway.payload(2, missed=4), b"no frame at all"]
    messages = [Message(BIRTH if number == 0 else DATA, data) for number, data in enumerate(payloads)]
    await parts.collector.handle(messages)
    page = await page_of(parts)
    assert page.value("weinao_collector_stored_frames_total") == 2
    assert page.value("weinao_collector_stored_readings_total") == 5
    assert page.value("weinao_collector_duplicate_frames_total") == 1
    assert page.value("weinao_collector_births_total") == 1
    assert page.value("weinao_collector_quarantined_entries_total", reason="bad_data") == 1
    assert page.value("weinao_collector_quarantined_readings_total", reason="refused_by_store") == 5
    assert page.value("weinao_collector_quarantined_entries_total", reason="rejected_frame") == 0, (
        "known before it rises"
    )
    assert page.value("weinao_collector_store_writes_total", outcome="partial") == 1
    assert page.value("weinao_collector_store_write_seconds_count") == 1
    assert page.value("weinao_collector_mqtt_connected") == 0
    assert page.value("weinao_collector_store_available") == 1
    totals = parts.ledger.report().totals
    assert page.value("weinao_ledger_expected_samples") == totals["expected"] == 18
    assert page.value("weinao_ledger_stored_samples") == totals["stored"] == 5
    assert page.value("weinao_ledger_explained_samples", kind="gap", reason="timeout") == 8
    assert page.value("weinao_ledger_explained_samples", kind="quarantined", reason="refused_by_store") == 5
    assert page.value("weinao_ledger_unexplained_samples") == 0
    assert page.value("weinao_ledger_received_frames") == 2
    assert page.value("weinao_ledger_gateways", state="unheard") == 1
    assert page.value("weinao_ledger_gateway_online") is None, "it never said so"
    assert "stream=" not in page.text


async def test_a_store_that_is_away_shows_while_it_is(parts: CollectorParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "_FIRST_RETRY_S", 0.01)
    gateway = ScriptedGateway(make_birth(1))
    parts.store.away = StoreUnavailable("away")
    handling = asyncio.create_task(
        parts.collector.handle([Message(BIRTH, gateway.birth.encode()), Message(DATA, gateway.payload())])
    )
    await happens(lambda: parts.store.attempts >= 2)
    page = await page_of(parts)
    assert page.value("weinao_collector_store_available") == 0
    assert (page.value("weinao_collector_store_writes_total", outcome="unavailable") or 0) >= 1
    parts.store.away = None
    await handling
    page = await page_of(parts)
    assert page.value("weinao_collector_store_available") == 1
    assert page.value("weinao_collector_store_writes_total", outcome="stored") == 1


class SlowSource:
    """A source whose batches the test hands out."""

    def __init__(self) -> None:
        self.now_s = 100.0

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        del max_messages, max_bytes, linger_s
        return [Message("a", b""), Message("b", b"")]

    def done(self, messages: Sequence[Message]) -> None:
        del messages

    def publish(self, topic: str, payload: bytes) -> bool:
        return bool(topic and payload)


async def test_a_batch_is_timed_from_taking_to_acknowledging() -> None:
    source = SlowSource()
    timed = TimedSource(source, now_s=lambda: source.now_s)
    first, second = await timed.take(1, 1, 0), await timed.take(1, 1, 0)
    source.now_s += 0.2
    timed.done(second)
    source.now_s += 2
    timed.done(first)
    timed.done(first)
    timed.done([])
    assert (timed.seconds.count, round(timed.seconds.sum_s, 6)) == (2, 2.4)


def test_what_does_not_reach_the_quarantine_is_not_counted(tmp_path: Path) -> None:
    quarantine = CountedQuarantine(tmp_path / "q.sqlite", max_bytes=1 << 20)
    entry = Entry("g", "bad_data", "", 7, b"x")
    quarantine.put([entry], 1)
    quarantine.close()
    with pytest.raises(sqlite3.ProgrammingError):
        quarantine.put([entry], 2)
    assert (quarantine.entries_by_reason["bad_data"], quarantine.readings_by_reason["bad_data"]) == (1, 7)


def many(folder: Path, count: int) -> Path:
    """A ledger of gateways that said a word each."""
    file = folder / "ledger.sqlite"
    ledger = Ledger(file)
    for number in range(count):
        ledger.note_state(GatewayPath("a", "b", "c", f"gw-{number:05}"), State(online=number % 3 > 0, boot=1))
    ledger.close()
    return file


def test_gateways_are_read_one_by_one_with_the_sums_of_the_whole(tmp_path: Path) -> None:
    with wired_collector(tmp_path) as parts:
        file = tmp_path / "data" / "ledger.sqlite"
        for number in range(3):
            path = GatewayPath("city", "d", "s", f"gw-{number}")
            gateway = ScriptedGateway(make_birth(2, path=path), start_ns=START_NS - 5 * 10**17)
            messages = [Message(path.topic(TopicKind.BIRTH), gateway.birth.encode())]
            messages += [Message(path.topic(TopicKind.DATA), gateway.payload(2, missed=number)) for _ in range(3)]
            del messages[2:3]  # a frame that is on its way
            asyncio.run(parts.collector.handle(messages))
        whole, sums = read_file(file), LedgerSums()
        for report in each_gateway(file):
            assert len(report.gateways) == 1
            sums.add(report)
    assert {name: sums.totals[name] for name in whole.totals} == whole.totals
    assert whole.totals["in_flight"] > 0
    assert sums.closes is whole.closes is False
    assert sums.explained["gap", "timeout"] == whole.totals["gaps"]


def test_gateways_beyond_the_bound_are_counted_and_not_listed(tmp_path: Path) -> None:
    sums = LedgerSums()
    (report,) = each_gateway(many(tmp_path, 1))
    for _ in range(MAX_GATEWAYS + 5):
        sums.add(report)
    assert (len(sums.gateways), sums.left_out, sums.states["offline"]) == (MAX_GATEWAYS, 5, MAX_GATEWAYS + 5)


async def test_a_look_rests_twenty_times_as_long_as_it_took(tmp_path: Path) -> None:
    now_s = [0.0]

    def tick() -> float:
        now_s[0] += 1.0
        return now_s[0]

    watch = LedgerWatch(many(tmp_path, 3), now_s=tick)
    first = await watch.sums()
    assert first is not None
    assert (first.totals["frames"], dict(first.states)) == (0, {"online": 2, "offline": 1, "unheard": 0})
    looked_s = now_s[0]
    while (latest := await watch.sums()) is first:
        pass
    assert now_s[0] - looked_s >= 1 / DUTY
    assert latest is not None


async def test_a_ledger_that_cannot_be_read_is_counted_and_the_page_goes_without(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"not SQLite, not at all" * 100)
    for name in ("broken.sqlite", "missing.sqlite"):
        watch = LedgerWatch(tmp_path / name)
        assert await watch.sums() is None
        assert watch.failures == 1
        page = Page("weinao_ledger_")
        write(page, None, now_s=0.0, failures=watch.failures)
        shown = Answer(200, {}, page.as_bytes().decode())
        assert shown.value("weinao_ledger_look_failures_total") == 1
        assert shown.value("weinao_ledger_unexplained_samples") is None, "0 would be a lie"


async def test_the_end_gives_up_a_look_that_is_under_way(tmp_path: Path) -> None:
    watch = LedgerWatch(many(tmp_path, 50))
    looking = asyncio.create_task(watch.sums())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await watch.close()
        await looking


async def test_it_is_served_while_the_context_lasts(parts: CollectorParts) -> None:
    async with parts.metrics.serve() as server:
        page = await asyncio.to_thread(scrape, server.port or 0)
        check(page.text)
        assert page.value("weinao_build_info", component="collector") == 1
        assert page.value("weinao_collector_info", store="embedded") == 1
