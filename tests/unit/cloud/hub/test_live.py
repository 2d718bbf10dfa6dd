"""Live streams: what passes, once each, to who may have it; resumed without a hole; the slow and the revoked ended."""

import asyncio
import json
from pathlib import Path

import pytest
from cloud_frames import PATH, ScriptedGateway, make_birth
from hub_kit import Follower, insides, owned

from cloud.hub.access import Reader
from cloud.hub.problems import Busy
from contract.catalogue import Grade
from contract.topics import GatewayPath

WORKS = Reader("t1", "Works", "test")
WATER = Reader("t2", "Water", "test")


async def test_readings_pass_in_order_with_their_quality(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        gateway = ScriptedGateway(owned(make_birth(2)))
        await hub.publish(gateway.birth)
        follower = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        await hub.send(gateway, rows=2)
        await follower.has(4)
        first = json.loads(follower.told[0].data)
        assert first == {
            "id": "1.0",
            "stream": f"{PATH}/meter/s0",
            "unit": "Cel",
            "time": "2026-09-21T14:13:21.000000000Z",
            "value": 20.0,
            "quality": "good",
            "reason": "none",
            "seen": first["seen"],
        }
        assert follower.ids == ["1.0", "1.1", "1.2", "1.3"]
        newest = hub.feed.get(1)
        assert newest is not None
        assert newest.value == 20.2
        await follower.leave()


async def test_each_gets_what_his_department_and_area_may_have(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        other = GatewayPath("Changzhou", "Tianning", "First", "gw-2")
        mine = ScriptedGateway(owned(make_birth(1), "Works", Grade.RESTRICTED))
        theirs = ScriptedGateway(owned(make_birth(1, path=other), "Water", Grade.SHARED, ["Works"]))
        for gateway in (mine, theirs):
            await hub.publish(gateway.birth)
        here = Reader("t3", "Works", "test", areas=("Changzhou/Xinbei",))
        followers = [Follower(hub.live, who) for who in (WORKS, WATER, here, Reader("t4", "Parks", "test"))]
        await asyncio.sleep(0.05)
        await hub.send(mine, rows=1)
        await hub.send(theirs, rows=1)
        await hub.caught_up()
        await followers[0].has(2)
        got = [{json.loads(one.data)["stream"].split("/")[3] for one in who.told} for who in followers]
        assert got == [{"gw-1", "gw-2"}, {"gw-2"}, {"gw-1"}, set()]
        for follower in followers:
            await follower.leave()


async def test_a_changed_grade_counts_from_the_next_frame_on(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        gateway = ScriptedGateway(owned(make_birth(1), "Works", Grade.OPEN))
        await hub.publish(gateway.birth)
        follower = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        await hub.send(gateway, rows=1)
        await follower.has(1)
        closed = ScriptedGateway(owned(make_birth(1), "Works", Grade.RESTRICTED), sequence=2)
        await hub.publish(closed.birth)
        await hub.send(closed, rows=1)
        await hub.caught_up()
        await asyncio.sleep(0.05)
        assert follower.ids == ["1.0"]
        await follower.leave()


async def test_who_comes_back_gets_what_he_missed_once_also_across_a_restart(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        gateway = ScriptedGateway(owned(make_birth(3)))
        await hub.publish(gateway.birth)
        whole = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        await hub.send(gateway, rows=2)
        payload = gateway.payload(1)
        await hub.put(gateway, payload)
        await hub.put(gateway, payload)  # the broker gives it twice
        await whole.has(9)
        after = whole.ids[4]  # in the middle of a frame
        await whole.leave()
        await hub.stop()
        await hub.send(gateway, rows=1)
        await hub.start()
        await hub.put(gateway, payload)  # and the gateway once more
        again = Follower(hub.live, WATER, after)
        await again.has(4)
        for _ in range(20):
            await hub.send(gateway, rows=1)
        await again.has(7 + 60)
        assert [one.event for one in again.told] == ["reading"] * 67
        assert again.ids[:7] == ["1.5", "2.0", "2.1", "2.2", "4.0", "4.1", "4.2"]
        readings = [(json.loads(one.data)["stream"], json.loads(one.data)["time"]) for one in again.told]
        assert len(set(readings)) == 67
        await again.leave()


async def test_what_the_tail_has_no_more_is_told_as_missed(tmp_path: Path) -> None:
    async with insides(tmp_path, tail_bytes=2000) as hub:
        gateway = ScriptedGateway(owned(make_birth(1)))
        await hub.publish(gateway.birth)
        for _ in range(40):
            await hub.send(gateway, rows=1)
        await hub.caught_up()
        late = Follower(hub.live, WATER, "2.0")
        await late.has(3)
        assert late.told[0].event == "missed"
        assert json.loads(late.told[0].data)["after"] == "2.0"
        assert late.ids[-1] == "40.0"
        unknown = Follower(hub.live, WATER, "999.0")
        await unknown.has(1)
        assert [one.event for one in unknown.told] == ["missed"]
        for one in (late, unknown):
            await one.leave()


async def test_the_slow_is_dropped_and_told_and_the_others_do_not_notice(tmp_path: Path) -> None:
    async with insides(tmp_path, queue_events=50) as hub:
        gateway = ScriptedGateway(owned(make_birth(10)))
        await hub.publish(gateway.birth)
        quick = Follower(hub.live, WATER)
        slow = hub.live.follow(WATER, None, None, None)
        first = asyncio.create_task(anext(slow))
        await asyncio.sleep(0.05)
        await hub.send(gateway, rows=1)
        assert len(await first or []) == 10
        for number in range(2, 12):
            await hub.send(gateway, rows=1)
            await quick.has(number * 10)
        told = [one for batch in [part async for part in slow] for one in batch or []]
        assert [one.event for one in told] == ["dropped"]
        assert hub.live.dropped == 1
        assert len(quick.ids) == 110
        await quick.leave()
        assert hub.live.clients == 0


async def test_a_revoked_token_ends_what_it_follows(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        follower = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        hub.revoked.add("t2")
        async with asyncio.timeout(3):
            await follower.ended.wait()


async def test_more_clients_than_there_is_room_for_are_told_to_wait(tmp_path: Path) -> None:
    async with insides(tmp_path, max_clients=1) as hub:
        follower = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        with pytest.raises(Busy):
            hub.live.open()
        await follower.leave()
        hub.live.open()


async def test_a_frame_that_nobody_can_read_stops_nothing(tmp_path: Path) -> None:
    async with insides(tmp_path) as hub:
        gateway = ScriptedGateway(owned(make_birth(1)))
        await hub.publish(gateway.birth)
        follower = Follower(hub.live, WATER)
        await asyncio.sleep(0.05)
        await hub.put(gateway, b"garbage")
        await hub.put(ScriptedGateway(make_birth(2, software="unheard of")), gateway.payload(1))
        stranger = ScriptedGateway(make_birth(5, software="unheard of"))
        await hub.put(stranger, stranger.payload(1))
        await hub.send(gateway, rows=1)
        await follower.has(2)
        assert hub.feed.counts.unreadable == 1
        assert hub.feed.counts.unknown_epochs >= 1
        await follower.leave()
