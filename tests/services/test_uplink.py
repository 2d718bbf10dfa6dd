"""The uplink against a real broker: what is sent, when it is sent again, and what frees the disk."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from servers import Mosquitto
from uplink_kit import BIRTH, BOOT, EPOCH, Bench, bench, fake_collector, fresh_datings, until
from wire import Wire

from contract import frame

pytestmark = [pytest.mark.services]


@pytest.fixture
async def rig(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[Bench]:
    async with bench(tmp_path, mosquitto.port, f"gw-{tmp_path.name}"[:60]) as made:
        yield made


async def test_an_acknowledged_frame_leaves_the_disk_and_no_other(rig: Bench) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending() as uplink:
            sequences = await rig.append(5)
            await until(lambda: len(cloud.frames) == 5)
            assert sorted(cloud.sequences()) == sequences
            assert rig.outbox.stats().frames == 5
            cloud.ack(stored=[[sequences[0], sequences[2]]])
            await until(lambda: rig.outbox.stats().frames == 2)
            assert uplink.stats.acknowledged == 3
            await rig.append(1, first=5)
            await until(lambda: len(cloud.frames) == 6)
            assert rig.outbox.stats().leased == 3


async def test_births_and_state_are_retained_for_whoever_comes_later(rig: Bench) -> None:
    async with rig.sending() as uplink:
        await until(lambda: uplink.stats.connected)
        with fake_collector(rig.port, rig.path) as cloud:
            await until(lambda: bool(cloud.births and cloud.states))
            assert (cloud.births[0].payload, cloud.births[0].retained) == (BIRTH, True)
            state = json.loads(cloud.states[0].payload)
            assert (state["online"], state["boot"], cloud.states[0].retained) == (True, BOOT, True)
            assert state["next_sequence"] == rig.outbox.next_sequence


async def test_what_nobody_acknowledges_is_sent_again_with_growing_patience(rig: Bench) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending(ack_timeout_s=0.4) as uplink:
            (number,) = await rig.append(1)
            await until(lambda: len(cloud.frames) == 4, 15)
            waits = [later.at_s - sooner.at_s for sooner, later in pairwise(cloud.frames)]
            for wait_s, patience_s in zip(waits, (0.4, 0.8, 1.6), strict=True):
                assert patience_s - 0.1 < wait_s < patience_s + 0.8, waits
            assert uplink.stats.retransmitted == 3
            assert cloud.sequences() == [number] * 4
            assert len({heard.payload for heard in cloud.frames}) == 1
            cloud.ack(stored=[[number, number]])
            await until(lambda: rig.outbox.stats().frames == 0)


async def test_the_window_is_never_exceeded(rig: Bench) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending(window_frames=8) as uplink:
            await until(lambda: uplink.stats.connected)
            await rig.append(30)
            await until(lambda: len(cloud.frames) == 8)
            for acknowledged in range(1, 5):
                number = cloud.sequences()[acknowledged - 1]
                cloud.ack(stored=[[number, number]])
                await until(lambda: len(cloud.frames) == 8 + acknowledged)  # noqa: B023 - awaited at once
                assert rig.outbox.stats().leased == 8
            assert uplink.stats.retransmitted == 0


async def test_live_first_then_the_backlog_oldest_first_at_its_rate(rig: Bench) -> None:
    sequences = await rig.append(40, noisy=True)
    with fake_collector(rig.port, rig.path, obliging=True) as cloud:
        began_s = time.monotonic()
        async with rig.sending(backlog_bytes_per_s=10_240):
            await until(lambda: len(cloud.frames) >= 20)
            spent_s = time.monotonic() - began_s
            carried = sum(len(heard.payload) for heard in cloud.frames[1:20])
            assert cloud.sequences()[:20] == [sequences[-1], *sequences[:19]]
            assert carried <= 10_240 * (spent_s + 0.1) + len(cloud.frames[0].payload)
            (live,) = await rig.append(1, first=99)
            seen = len(cloud.frames)
            await until(lambda: live in cloud.sequences())
            assert cloud.sequences().index(live) <= seen + 6


async def test_a_backlog_takes_three_quarters_of_the_window_and_leaves_the_rest_to_the_living(rig: Bench) -> None:
    backlog = await rig.append(20)
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending(window_frames=8):
            await until(lambda: len(cloud.frames) == 6)
            await asyncio.sleep(0.6)
            assert cloud.sequences() == [backlog[-1], *backlog[:5]]
            live = await rig.append(3, first=50)
            await until(lambda: len(cloud.frames) == 8)
            assert cloud.sequences()[6:] == [live[2], live[1]]


async def test_a_rejected_frame_goes_to_the_dead_letters(rig: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending() as uplink:
            good, bad = await rig.append(2)
            await until(lambda: len(cloud.frames) == 2)
            cloud.ack(stored=[[good, good]], rejected=[[bad, "no such thing " * 1000]])
            await until(lambda: rig.outbox.stats().dead_letters == 1)
            await until(lambda: rig.outbox.stats().frames == 0)
            assert uplink.stats.rejected == 1
    assert f"rejects 1 frames, the first is {bad}: no such thing" in caplog.text
    assert len(caplog.text) < 5000


async def test_an_unknown_catalogue_is_told_and_its_frames_follow_at_once(rig: Bench) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending():
            numbers = await rig.append(3)
            await until(lambda: len(cloud.frames) == 3)
            births = len(cloud.births)
            asked_s = time.monotonic()
            for _ in numbers:  # one answer a frame, as a collector gives that took them one by one
                cloud.ack(unknown_epochs=[EPOCH])
            await until(lambda: len(cloud.frames) == 6)
            assert time.monotonic() - asked_s < 1
            assert sorted(cloud.sequences()[3:]) == numbers
            assert cloud.births[births].payload == BIRTH
            assert cloud.births[births].at_s <= cloud.frames[3].at_s
            assert len(cloud.births) == births + 1


async def test_frames_of_an_older_catalogue_bring_it_along_and_one_that_is_lost_blocks_nobody(rig: Bench) -> None:
    rig.outbox.save_birth(5, b'{"an":"older birth"}')
    await rig.append(1, epoch=5)
    lost = await rig.append(1, first=1, epoch=6)
    rig.outbox.save_birth(EPOCH, BIRTH)
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending():
            await until(lambda: len(cloud.frames) == 2)
            assert [heard.payload for heard in cloud.births] == [b'{"an":"older birth"}', BIRTH]
            cloud.ack(unknown_epochs=[6])
            await until(lambda: rig.outbox.stats().dead_letters == 1)
            assert rig.outbox.stats().frames == 1
    with fake_collector(rig.port, rig.path) as late:
        await until(lambda: bool(late.births))
        assert [heard.payload for heard in late.births] == [BIRTH]
    assert lost


async def test_after_a_broker_restart_everything_under_way_is_sent_again(rig: Bench, mosquitto: Mosquitto) -> None:
    with Wire(mosquitto.port) as cable, fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending({"port": cable.port}) as uplink:
            numbers = await rig.append(5)
            await until(lambda: len(cloud.frames) == 5)
            cloud.ack(stored=[[numbers[0], numbers[0]]])
            await until(lambda: rig.outbox.stats().frames == 4)
            mosquitto.kill()
            mosquitto.forget()
            await until(lambda: not uplink.stats.connected)
            cable.cut()  # the gateway comes back after the collector has subscribed again
            mosquitto.start()
            await until(lambda: cloud.subscriptions == 2)
            cable.mend()
            await until(lambda: len(cloud.frames) >= 9, 15)
            assert sorted(cloud.sequences()[5:]) == numbers[1:]
            with fake_collector(rig.port, rig.path) as late:
                await until(lambda: bool(late.births and late.states))
                assert (late.births[0].payload, late.births[0].retained) == (BIRTH, True)
                assert late.online() == [True]
            assert (uplink.stats.connections, uplink.stats.failures >= 1) == (2, True)


async def test_the_will_says_offline_when_the_connection_breaks(rig: Bench, mosquitto: Mosquitto) -> None:
    with Wire(mosquitto.port) as cable, fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending({"port": cable.port, "reconnect_max_s": 5}) as uplink:
            await until(lambda: cloud.online() == [True])
            cable.mend()  # every connection is gone, without a word of farewell
            await until(lambda: cloud.online()[:2] == [True, False])
            await until(lambda: cloud.online() == [True, False, True], 15)
            await until(lambda: uplink.stats.connected)
            assert json.loads(cloud.states[1].payload) == {"online": False, "boot": BOOT}


async def test_a_stop_is_announced_by_the_gateway_itself(rig: Bench) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending() as uplink:
            await rig.append(2)
            await until(lambda: uplink.stats.connected and len(cloud.frames) == 2)
        await until(lambda: cloud.online()[-1] is False)
        last = json.loads(cloud.states[-1].payload)
        assert last["next_sequence"] == rig.outbox.next_sequence
        assert last["oldest_sequence"] == min(cloud.sequences())
    assert rig.outbox.stats().leased == 0


async def test_a_stop_does_not_wait_for_a_network_that_is_gone(rig: Bench, mosquitto: Mosquitto) -> None:
    with Wire(mosquitto.port) as cable:
        async with rig.sending({"port": cable.port, "keepalive_s": 30}) as uplink:
            await until(lambda: uplink.stats.connected)
            cable.cut()
            await rig.append(60, noisy=True, rows=4000)  # more than the sockets' buffers take
            await asyncio.sleep(1)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 8


async def test_a_slow_line_is_not_choked_by_copies(rig: Bench, mosquitto: Mosquitto) -> None:
    with Wire(mosquitto.port) as cable, fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending({"port": cable.port, "keepalive_s": 30}, ack_timeout_s=0.3) as uplink:
            await until(lambda: uplink.stats.connected)
            cable.cut()
            await rig.append(40, noisy=True, rows=1000)
            await asyncio.sleep(2)  # six times the patience, and nothing was confirmed by the broker
            assert uplink.stats.retransmitted == 0
            assert uplink.stats.bytes_sent < 300_000
            cable.mend()
            cloud.obliging = True
            await until(lambda: rig.outbox.stats().frames == 0, 30)


HOSTILE = [
    b"",
    b"garbage",
    b"[" * 5000,
    b'{"boot": 7}' * 2,
    json.dumps({"boot": BOOT, "stored": [[9, 3]]}).encode(),
    json.dumps({"boot": BOOT, "stored": [[-5, 10**30]]}).encode(),
    json.dumps({"boot": BOOT + 1, "stored": [[0, 2**62]], "rejected": [[1, "x"], [2, "y"]]}).encode(),
    json.dumps({"boot": -1, "stored": [[0, 2**63 - 1]], "unknown_epochs": [EPOCH, -1, 2**70]}).encode(),
    json.dumps({"boot": BOOT + 1, "stored": [[0, 2**62]] * 4000}).encode(),
    json.dumps({"boot": BOOT, "stored": [[2**61 + 2 * i, 2**61 + 2 * i] for i in range(4000)]}).encode(),
    json.dumps({"boot": BOOT, "stored": [[0, 2**62]] * 20_000}).encode(),
    json.dumps({"boot": BOOT, "stored": [[0, 2**62]] * 1_000_000}).encode(),
    json.dumps({"boot": BOOT, "rejected": [[2**62 + i, "x"] for i in range(4000)]}).encode(),
    json.dumps({"boot": BOOT, "rejected": [[-1, "x"]], "unknown_epochs": list(range(1000, 21_000))}).encode(),
]


async def test_hostile_acknowledgements_free_nothing_and_stop_nothing(
    rig: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending(ack_timeout_s=1) as uplink:
            numbers = await rig.append(10)
            await until(lambda: len(cloud.frames) == 10)
            for payload in HOSTILE * 3:
                cloud.say(payload)
            await until(lambda: uplink.stats.bad_acks >= 21)
            await until(lambda: len(cloud.frames) >= 20)  # all of it is still under way, and sent again
            assert set(Counter(cloud.sequences()).values()) == {2}
            assert rig.outbox.stats().frames == 10
            cloud.ack(stored=[[numbers[0], numbers[-1]]])
            await until(lambda: rig.outbox.stats().frames == 0)
            assert rig.outbox.stats().dead_letters == 0
    assert caplog.text.count("not understood") <= 9, "a run of bad acknowledgements is logged once"


async def test_undated_frames_wait_until_the_clock_is_known_and_keep_their_times(rig: Bench) -> None:
    rig.datings = fresh_datings(rig.outbox)
    offset_ns = 1_795_000_000_000_000_000
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending(ack_timeout_s=0.5) as uplink:
            await until(lambda: uplink.stats.connected)
            undated = await rig.append(3, undated=True)
            dated = await rig.append(1, first=9)
            await until(lambda: len(cloud.frames) >= 2)
            assert set(cloud.sequences()) == set(dated)
            cloud.ack(stored=[[dated[0], dated[0]]])
            rig.datings.settle(offset_ns)
            await until(lambda: set(undated) <= set(cloud.sequences()))
            await until(lambda: min(Counter(cloud.sequences())[number] for number in undated) >= 2)
    copies = {heard.payload for heard in cloud.frames if frame.peek(heard.payload).sequence in undated}
    assert len(copies) == 3, "sent twice means the same bytes"
    for payload in copies:
        header = frame.peek(payload)
        number = undated.index(header.sequence)
        assert (header.undated, header.estimated) == (False, False)
        assert header.time_base_ns == 1_790_000_000_000_000_000 + number * 10**9 + offset_ns


async def test_a_frame_that_cannot_be_dated_goes_to_the_dead_letters_and_blocks_nobody(rig: Bench) -> None:
    rig.datings = fresh_datings(rig.outbox)
    rig.datings.settle(2**63 - 1)  # no time of these frames fits 64 bits any more
    with fake_collector(rig.port, rig.path) as cloud:
        async with rig.sending():
            await rig.append(2, undated=True)
            (good,) = await rig.append(1, first=2)
            await until(lambda: rig.outbox.stats().dead_letters == 2)
            await until(lambda: cloud.sequences() == [good])
