"""What the collector makes of messages: stored, counted, put aside, acknowledged, and in which order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cloud_frames import PATH, START_NS, ScriptedGateway, absent, make_birth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import MemoryStore

from cloud import collector as collector_module
from cloud.births import Births
from cloud.collector import Collector
from cloud.config import Collector as Settings
from cloud.intake import Message
from cloud.ledger import Ledger
from cloud.quarantine import Quarantine
from contract import ack, frame
from contract.ack import Ack
from contract.errors import StoreUnavailable
from contract.frame import Frame
from contract.readings import Kind, Table
from contract.topics import GatewayPath, TopicKind

DATA = PATH.topic(TopicKind.DATA)
BIRTH = PATH.topic(TopicKind.BIRTH)
NOW_NS = START_NS + 3600 * 10**9


class ScriptedSource:
    """Messages put in by the test; remembers what was answered, in order."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        self.events: list[tuple[str, object]] = []

    def put(self, topic: str, payload: bytes) -> None:
        self.queue.put_nowait(Message(topic, payload))

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        del max_bytes, linger_s
        taken = [await self.queue.get()]
        while not self.queue.empty() and len(taken) < max_messages:
            taken.append(self.queue.get_nowait())
        return taken

    def done(self, messages: Sequence[Message]) -> None:
        self.events.append(("done", len(messages)))

    def publish(self, topic: str, payload: bytes) -> bool:
        self.events.append((topic, ack.decode(payload)))
        return True

    def acks(self, path: GatewayPath = PATH) -> list[Ack]:
        return [event for topic, event in self.events if topic == path.topic(TopicKind.ACK) and isinstance(event, Ack)]


class House:
    """A collector with its files, on a store in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.source = ScriptedSource()
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.births = Births(self.folder / "births.sqlite")
        self.quarantine = Quarantine(self.folder / "quarantine.sqlite", max_bytes=1 << 20)
        self.collector = Collector(
            self.source,
            self.store,
            ledger=self.ledger,
            births=self.births,
            quarantine=self.quarantine,
            settings=Settings(retry_max_s=0.05),
            now_ns=lambda: NOW_NS,
        )

    def close(self) -> None:
        self.ledger.close()
        self.births.close()
        self.quarantine.close()

    async def handle(self, *messages: tuple[str, bytes]) -> None:
        await self.collector.handle([Message(topic, payload) for topic, payload in messages])

    def row(self, stream: str = "s0") -> tuple[int, int, dict[str, int], int]:
        (row,) = [row for row in self.ledger.report().rows if row.stream == stream]
        return row.expected, row.stored, row.quarantined, row.unexplained


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(collector_module, "_FIRST_RETRY_S", 0.001)
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway(make_birth(2))


async def test_frames_are_stored_counted_acknowledged_and_then_taken_off_the_broker(
    house: House, gateway: ScriptedGateway
) -> None:
    frames = [gateway.payload(3) for _ in range(4)]
    await house.handle((BIRTH, gateway.birth.encode()), *((DATA, one) for one in frames))
    assert house.source.events == [(PATH.topic(TopicKind.ACK), Ack(1, [(1, 4)])), ("done", 5)]
    assert len(house.store.points) == 24
    assert house.row() == (12, 12, {}, 0)
    assert house.ledger.report().closes


async def test_a_birth_in_another_order_of_keys_has_the_same_epoch(house: House, gateway: ScriptedGateway) -> None:
    await house.handle((BIRTH, gateway.birth.model_dump_json(indent=1).encode()), (DATA, gateway.payload()))
    assert house.source.acks() == [Ack(1, [(1, 1)])]


async def test_an_unknown_epoch_is_asked_for_and_nothing_is_stored(house: House, gateway: ScriptedGateway) -> None:
    payload = gateway.payload()
    await house.handle((DATA, payload))
    assert house.source.acks() == [Ack(1, [], [], [gateway.birth.epoch])]
    assert not house.store.points
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, payload))
    assert house.source.acks()[1] == Ack(1, [(1, 1)])
    assert house.row() == (3, 3, {}, 0)


async def test_a_duplicate_is_acknowledged_and_neither_stored_nor_counted_again(
    house: House, gateway: ScriptedGateway
) -> None:
    payload = gateway.payload()
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, payload), (DATA, payload))
    await house.handle((DATA, payload))
    assert house.source.acks() == [Ack(1, [(1, 1)])] * 2
    assert set(house.store.writes.values()) == {1}
    assert house.row() == (3, 3, {}, 0)


async def test_one_acknowledgement_a_gateway_and_boot(house: House, gateway: ScriptedGateway) -> None:
    other = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-2")
    second = ScriptedGateway(make_birth(1, path=other), boot=7)
    first = [gateway.payload()]
    gateway.reboot(2)
    first.append(gateway.payload())
    await house.handle(
        (BIRTH, gateway.birth.encode()),
        (other.topic(TopicKind.BIRTH), second.birth.encode()),
        *((DATA, one) for one in first),
        (other.topic(TopicKind.DATA), second.payload()),
    )
    assert house.source.acks() == [Ack(1, [(1, 1)]), Ack(2, [(2, 2)])]
    assert house.source.acks(other) == [Ack(7, [(1, 1)])]


async def test_a_gateway_may_not_speak_under_anothers_name(house: House, gateway: ScriptedGateway) -> None:
    """A birth on another's topic is refused, so its frames there find no catalogue."""
    other = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-2")
    await house.handle(
        (other.topic(TopicKind.BIRTH), gateway.birth.encode()), (other.topic(TopicKind.DATA), gateway.payload())
    )
    assert house.source.acks(other) == [Ack(1, [], [], [gateway.birth.epoch])]
    assert house.quarantine.by_reason() == {"bad_birth": 1}


async def test_readings_that_the_store_refuses_are_quarantined_with_its_words(
    house: House, gateway: ScriptedGateway
) -> None:
    house.store.refuses = lambda stream, time_ns: (
        "field type conflict" if stream == "s1" and time_ns == START_NS + 10**9 else None
    )
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, gateway.payload()), (DATA, gateway.payload()))
    assert house.source.acks() == [Ack(1, [(1, 2)])]
    assert house.row("s0") == (6, 6, {}, 0)
    assert house.row("s1") == (6, 5, {"refused_by_store": 1}, 0)
    (entry,) = house.quarantine.newest()
    assert (entry.detail, entry.readings) == ("field type conflict", 1)
    assert f'["meter/s1", {START_NS + 10**9}, 20.1]'.encode() in entry.payload
    assert house.ledger.report().closes


async def test_while_the_store_is_away_nothing_is_acknowledged_and_nothing_taken(
    house: House, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    house.store.away = StoreUnavailable("connection refused")
    house.source.put(BIRTH, gateway.birth.encode())
    house.source.put(DATA, gateway.payload())
    running = asyncio.create_task(house.collector.run())
    while house.store.attempts < 4:  # noqa: ASYNC110 - the condition is a number
        await asyncio.sleep(0)
    house.source.put(DATA, gateway.payload())
    while house.store.attempts < 8:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert house.source.events == []
    assert house.source.queue.qsize() == 1
    assert house.collector.counts.trouble == "connection refused"
    house.store.away = None
    while len(house.source.acks()) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    house.collector.stop()
    await running
    assert house.source.acks() == [Ack(1, [(1, 1)]), Ack(1, [(2, 2)])]
    assert set(house.store.writes.values()) == {1}
    told = [record.message for record in caplog.records if "store" in record.message]
    assert told == [
        "the store does not take: connection refused; holding back, nothing is acknowledged",
        "the store takes again",
    ]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions are numbers
            await asyncio.sleep(0.001)


async def attempted(house: House, count: int) -> None:
    """The store was asked that often."""
    await until(lambda: house.store.attempts >= count)


def trouble(house: House) -> str | None:
    return house.collector.counts.trouble


async def test_a_stop_finishes_the_batches_at_hand_and_takes_no_other(house: House, gateway: ScriptedGateway) -> None:
    house.store.gate.clear()
    house.source.put(BIRTH, gateway.birth.encode())
    running = asyncio.create_task(house.collector.run())
    for attempts in (1, 2):
        house.source.put(DATA, gateway.payload())
        await attempted(house, attempts)
    house.collector.stop()
    for _ in range(5):
        await asyncio.sleep(0)
    house.source.put(DATA, gateway.payload())
    house.store.gate.set()
    await running
    assert house.source.acks() == [Ack(1, [(1, 1)]), Ack(1, [(2, 2)])]
    assert house.source.queue.qsize() == 1


async def test_batches_are_under_way_together_up_to_the_bound(house: House, gateway: ScriptedGateway) -> None:
    """While the database syncs the first, others are decoded and sent; no more than the bound are taken."""
    house.store.gate.clear()
    house.source.put(BIRTH, gateway.birth.encode())
    running = asyncio.create_task(house.collector.run())
    bound = Settings().batches_under_way
    for number in range(bound):
        house.source.put(DATA, gateway.payload())
        await attempted(house, number + 1)
    house.source.put(DATA, gateway.payload())
    for _ in range(20):
        await asyncio.sleep(0)
    assert (house.store.attempts, house.source.queue.qsize(), house.source.acks()) == (bound, 1, [])
    house.store.gate.set()
    await until(lambda: len(house.source.acks()) == bound + 1)
    house.collector.stop()
    await running
    assert [answer.stored for answer in house.source.acks()] == [[(n, n)] for n in range(1, bound + 2)]
    assert set(house.store.writes.values()) == {1}
    assert house.ledger.report().closes


async def test_a_later_batch_waits_for_an_earlier_ones_write(house: House, gateway: ScriptedGateway) -> None:
    """Acknowledgements leave in the order of taking, whichever write ends first."""
    await house.handle((BIRTH, gateway.birth.encode()))
    first, second = gateway.payload(), gateway.payload()
    house.store.gate.clear()
    slow = asyncio.create_task(house.collector.handle([Message(DATA, first)]))
    await attempted(house, 1)
    stuck, house.store.gate = house.store.gate, asyncio.Event()
    house.store.gate.set()
    quick = asyncio.create_task(house.collector.handle([Message(DATA, second)], [slow]))
    await until(lambda: len(house.store.points) == 6)
    for _ in range(20):
        await asyncio.sleep(0)
    assert house.source.acks() == []
    stuck.set()
    await quick
    assert house.source.acks() == [Ack(1, [(1, 1)]), Ack(1, [(2, 2)])]


async def test_a_frame_sent_again_while_its_first_copy_is_under_way_waits_for_that(
    house: House, gateway: ScriptedGateway
) -> None:
    """Never acknowledged before the database has it, never written or counted twice."""
    await house.handle((BIRTH, gateway.birth.encode()))
    payload = gateway.payload()
    house.store.gate.clear()
    first = asyncio.create_task(house.collector.handle([Message(DATA, payload)]))
    await attempted(house, 1)
    again = asyncio.create_task(house.collector.handle([Message(DATA, payload)], [first]))
    behind = asyncio.create_task(house.collector.handle([Message(DATA, gateway.payload())], [again]))
    await attempted(house, 2)  # batches are looked at in turn, so the second is past that
    assert house.source.acks() == []
    house.store.gate.set()
    await behind
    assert house.source.acks() == [Ack(1, [(1, 1)]), Ack(1, [(1, 1)]), Ack(1, [(2, 2)])]
    assert set(house.store.writes.values()) == {1}
    assert (house.collector.counts.frames, house.collector.counts.duplicates) == (2, 1)
    assert house.row() == (6, 6, {}, 0)


async def test_a_batch_whose_forerunner_failed_acknowledges_nothing(house: House, gateway: ScriptedGateway) -> None:
    await house.handle((BIRTH, gateway.birth.encode()))
    payload = gateway.payload()
    house.store.gate.clear()
    first = asyncio.create_task(house.collector.handle([Message(DATA, payload)]))
    await attempted(house, 1)
    again = asyncio.create_task(house.collector.handle([Message(DATA, payload)], [first]))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert house.source.acks() == []
    assert house.source.events[-1] == ("done", 1)  # the birth's


async def test_the_trouble_of_several_batches_is_told_once(
    house: House, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    house.store.gate.clear()
    house.source.put(BIRTH, gateway.birth.encode())
    running = asyncio.create_task(house.collector.run())
    for number in range(3):
        house.source.put(DATA, gateway.payload())
        await attempted(house, number + 1)
    house.store.away = StoreUnavailable("connection refused")
    house.store.gate.set()
    await attempted(house, 10)
    assert trouble(house) == "connection refused"
    house.store.away = None
    await until(lambda: len(house.source.acks()) == 3)
    assert trouble(house) is None
    house.collector.stop()
    await running
    told = [record.message for record in caplog.records if "store" in record.message]
    assert [text.partition(":")[0] for text in told] == ["the store does not take", "the store takes again"]
    assert [answer.stored for answer in house.source.acks()] == [[(1, 1)], [(2, 2)], [(3, 3)]]


async def test_killed_between_store_and_ledger_nothing_counts_twice(house: House, gateway: ScriptedGateway) -> None:
    payload = gateway.payload()
    house.ledger.close()  # the commit fails as it would in a process that is gone
    with pytest.raises(Exception, match="closed"):
        await house.handle((BIRTH, gateway.birth.encode()), (DATA, payload))
    house.close()
    house.open()
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, payload))
    assert house.row() == (3, 3, {}, 0)
    assert len(house.store.points) == 6


async def test_unknown_streams_and_wrong_kinds_are_put_aside_and_the_rest_is_stored(
    house: House, gateway: ScriptedGateway
) -> None:
    made = gateway.frame(2)
    strange = Table(
        Kind.INT,
        np.array([1, 900], dtype=np.int32),
        made.tables[0].times + 1,
        np.array([[1, 2], [3, 4]], dtype=np.int64),
        np.zeros((2, 2), dtype=np.uint8),
    )
    both = replace(made, tables=(*made.tables, strange))
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, frame.encode(both)))
    assert house.source.acks() == [Ack(1, [(1, 1)])]
    assert len(house.store.points) == 4
    assert house.quarantine.by_reason() == {"unknown_stream": 1, "wrong_kind": 1}
    assert house.row("?") == (2, 0, {"unknown_stream": 2}, 0)
    assert house.row("s1") == (2, 2, {"wrong_kind": 2}, -2)  # its counters did not count the foreign readings


@pytest.mark.parametrize("time_ns", [NOW_NS + 2 * 86_400 * 10**9, 0, -(2**63), 2**63 - 1])
async def test_absurd_times_are_put_aside(house: House, gateway: ScriptedGateway, time_ns: int) -> None:
    made = gateway.frame(2)
    times = made.tables[0].times.copy()
    times[1] = time_ns
    await house.handle(
        (BIRTH, gateway.birth.encode()),
        (DATA, frame.encode(replace(made, tables=(replace(made.tables[0], times=times),)))),
    )
    assert house.row() == (2, 1, {"implausible_time": 1}, 0)
    assert house.ledger.report().closes


async def test_the_same_time_twice_is_one_point_and_one_quarantined(house: House, gateway: ScriptedGateway) -> None:
    made = gateway.frame(3)
    times = made.tables[0].times.copy()
    times[2] = times[0]
    table = absent(replace(made.tables[0], times=times), 0, 1)
    counted = made.counters
    assert counted is not None
    due = counted.due.copy()
    due[1] -= 1
    whole = replace(made, tables=(table,), counters=replace(counted, due=due))
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, frame.encode(whole)))
    assert house.row("s0") == (3, 2, {"same_time_twice": 1}, 0)
    assert house.row("s1") == (2, 2, {}, 0)
    assert set(house.store.writes.values()) == {1}


async def test_undated_frames_are_put_aside_whole(house: House, gateway: ScriptedGateway) -> None:
    made = gateway.frame(2)
    undated = replace(made, header=replace(made.header, undated=True))
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, frame.encode(undated)))
    assert house.row() == (2, 0, {"undated": 2}, 0)
    assert not house.store.points


async def test_a_broken_frame_is_rejected_by_number_however_often_it_comes(
    house: House, gateway: ScriptedGateway
) -> None:
    broken = gateway.payload()[:-8]
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, broken), (DATA, gateway.payload()))
    (answer,) = house.source.acks()
    assert (answer.stored, [sequence for sequence, _ in answer.rejected]) == ([(2, 2)], [1])
    await house.handle((DATA, broken))
    assert house.source.acks()[1].rejected == answer.rejected
    assert house.quarantine.by_reason() == {"rejected_frame": 1}
    assert house.row() == (6, 3, {"rejected_frame": 3}, 0)
    assert house.ledger.report().closes


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    topic=st.sampled_from(
        [DATA, BIRTH, PATH.topic(TopicKind.STATE), "weinao/v1/data/a/b", "weinao/v1/data/+/#/x/y", "", DATA + "/x"]
    ),
    payload=st.binary(max_size=200) | st.sampled_from([b"null", b"[]", b"{}", b'{"online": 1}', b"[" * 5000]),
    flip=st.integers(0, 10_000),
)
async def test_hostile_messages_never_stop_the_collector(house: House, topic: str, payload: bytes, flip: int) -> None:
    """Random bytes, and an honest frame with one byte changed: each is dealt with and taken off the broker."""
    gateway = ScriptedGateway(make_birth(2), boot=5)
    honest = bytearray(gateway.payload())
    honest[flip % len(honest)] ^= 1 + flip % 255
    await house.handle((topic, payload), (DATA, bytes(honest)))
    assert house.source.events[-1] == ("done", 2)


async def test_numbers_out_of_range_reject_the_frame(house: House, gateway: ScriptedGateway) -> None:
    made: Frame = gateway.frame()
    counted = made.counters
    assert counted is not None
    absurd = replace(made, counters=replace(counted, due=counted.due + 2**60))
    await house.handle((BIRTH, gateway.birth.encode()), (DATA, frame.encode(absurd)))
    (answer,) = house.source.acks()
    assert answer.rejected == [(1, "a counter is out of range")]
