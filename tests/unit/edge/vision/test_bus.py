"""The gateway's end of the vision worker: intervals become blocks, a worker that fails is an explained gap.

The worker here is a process that says what the test wrote down for it, because what is tested is who hears it.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eye_kit import SECOND, spec_of

from contract.errors import DeviceUnavailable
from contract.readings import Reason, gap
from drivers.base import Block
from drivers.base_camera import CameraBusSpec
from edge.streams import scans_of
from edge.vision.bus import VisionBus, VisionHost
from edge.vision.scene import PROFILE_LENGTH
from edge.vision.wire import LINE_BYTES, Closed, Learned, Refused, Said, Seen, encode

ACTOR = """
import sys
order = sys.stdin.readline()
with open(sys.argv[1], "a") as file:
    file.write(order)
sys.stdout.write(open(sys.argv[2]).read())
sys.stdout.flush()
if sys.argv[3] == "stays":
    sys.stdin.read()
sys.exit(7 if sys.argv[3] == "fails" else 0)
"""
SPEC = spec_of("cam")
STREAMS = [stream.name for stream in SPEC.devices[0].streams]
SEEN = Seen(0, "ok", "", 5.0, 1.5, 100, 50, 0, 1, 0, 90 * SECOND)


class Stage:
    """A host whose worker says `lines`, then stays, ends or fails."""

    def __init__(self, folder: Path, *lines: Said | bytes, then: str = "stays", cameras: int = 1) -> None:
        self.folder = folder
        self.says(*lines)
        self.notes: dict[str, bytes] = {}
        self.specs = [SPEC, *(spec_of(f"cam-{number}") for number in range(1, cameras))]
        self.host = VisionHost(
            self.specs,
            Path("models"),
            "cpu",
            offset_ns=lambda: 1_300_000_000,
            load_view=self.notes.get,
            save_view=self.notes.__setitem__,
            command=(sys.executable, "-c", ACTOR, str(folder / "orders"), str(folder / "lines"), then),
            silent_s=0.5,
            now_ns=lambda: 100 * SECOND,
        )

    def says(self, *lines: Said | bytes) -> None:
        """What the next worker says."""
        text = b"".join(line if isinstance(line, bytes) else encode(line) for line in lines)
        (self.folder / "lines").write_bytes(text)

    def orders(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "orders").read_text().splitlines()]

    def bus(self, spec: CameraBusSpec = SPEC) -> VisionBus:
        return self.host.bus(spec, scans_of(spec.devices[0]))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[list[VisionBus]]:
        buses = [self.bus(spec) for spec in self.specs]
        for bus in buses:
            await bus.open()
        try:
            yield buses
        finally:
            for bus in buses:
                await bus.close()


def closed(values: dict[str, Any], status: dict[str, int] | None = None, *, camera: int = 0, at_s: int = 50) -> Closed:
    """An interval in which the other streams are a mean of nobody."""
    codes = dict.fromkeys(STREAMS, gap(Reason.NOBODY)) | dict.fromkeys(values, 0) | (status or {})
    return Closed(camera, at_s * SECOND, [values.get(name) for name in STREAMS], [codes[name] for name in STREAMS])


async def blocks(bus: VisionBus, count: int) -> Sequence[Block]:
    found: list[Block] = []
    async with asyncio.timeout(20):
        async for block in bus.listen():
            found.append(block)
            if len(found) == count:
                break
    return found


async def failure(bus: VisionBus) -> DeviceUnavailable:
    with pytest.raises(DeviceUnavailable) as caught:
        await blocks(bus, 99)
    return caught.value


def by_name(block: Block) -> dict[str, tuple[Any, int]]:
    values: list[Any] = [*block.floats.tolist(), *block.ints.tolist(), *block.texts]
    names = [stream.name for stream in block.scan.streams]
    return dict(zip(names, zip(values, block.status.tolist(), strict=True), strict=True))


async def test_an_interval_becomes_a_block(tmp_path: Path) -> None:
    values = {"crossings.middle.left": 3, "occupancy.all": 1.25, "camera_state": "ok", "coverage": 1, "frames_used": 10}
    stage = Stage(tmp_path, SEEN, closed(values, {"occupancy.all": 0x47}), closed({}, at_s=52))
    async with stage.opened() as [bus]:
        first, second = await blocks(bus, 2)
    assert (first.time_ns, second.time_ns, first.dated) == (50 * SECOND, 52 * SECOND, False)
    found = by_name(first)
    assert {name: found[name] for name in values} == {
        "crossings.middle.left": (3, 0),
        "occupancy.all": (1.25, 0x47),
        "camera_state": ("ok", 0),
        "coverage": (1.0, 0),
        "frames_used": (10, 0),
    }
    assert found["crossings.middle.right"] == (0, gap(Reason.NOBODY))


@pytest.mark.parametrize("value", ["many", 2**70, None])
async def test_a_value_that_is_none_of_its_stream_is_a_gap(tmp_path: Path, value: Any) -> None:
    line = json.loads(encode(closed({"frames_used": 1}))) | {}
    line["values"][STREAMS.index("frames_used")] = value
    async with Stage(tmp_path, json.dumps(line).encode() + b"\n").opened() as [bus]:
        (block,) = await blocks(bus, 1)
    assert by_name(block)["frames_used"] == (0, gap(Reason.UNDECODABLE))


async def test_the_worker_is_told_where_intervals_end(tmp_path: Path) -> None:
    async with Stage(tmp_path, closed({})).opened() as [bus]:
        await blocks(bus, 1)
    (order,) = Stage.orders(Stage(tmp_path))
    assert order["cameras"][0]["phase_ns"] == 700_000_000  # UTC is 1.3 s ahead; even seconds of it are x.7 of ours
    assert CameraBusSpec.model_validate(order["cameras"][0]["bus"]) == SPEC


async def test_one_worker_for_all_cameras_and_none_is_left_at_the_end(tmp_path: Path) -> None:
    stage = Stage(tmp_path, closed({"frames_used": 1}), closed({"frames_used": 2}, camera=1), cameras=2)
    async with stage.opened() as buses:
        found = [by_name((await blocks(bus, 1))[0])["frames_used"][0] for bus in buses]
        assert found == [1, 2]
        await buses[0].close()
        assert not await _ended(stage), "the other camera needs it still"
        await buses[0].open()
    assert stage.host.starts == 1
    assert await _ended(stage)


async def _ended(stage: Stage) -> bool:
    process = stage.host._process
    return process is None or process.returncode is not None


@pytest.mark.parametrize(
    ("lines", "then", "why"),
    [
        ([], "ends", "ended by itself, status 0"),
        ([SEEN], "fails", "ended by itself, status 7"),
        ([SEEN], "stays", "said nothing for 0 s"),
        ([b"hello\n"], "stays", "not a line of the vision worker"),
        ([b"x" * (LINE_BYTES + 2)], "stays", "limit"),
        ([Seen(9, "ok", "", 0, 0, 0, 0, 0, 0, 0, 0)], "stays", "speaks of a camera 9"),
        ([Refused(["models/any.yaml: no such file", "and more"])], "ends", "no such file; and more"),
    ],
)
async def test_a_worker_that_fails_is_unavailable_and_can_be_started_again(
    tmp_path: Path, lines: list[Said | bytes], then: str, why: str
) -> None:
    stage = Stage(tmp_path, *lines, then=then, cameras=2)
    async with stage.opened() as buses:
        for bus in buses:
            error = await failure(bus)
            assert why in str(error)
            assert (error.reason, error.whole_bus) == (Reason.DISCONNECTED, True)
        camera = stage.host.snapshot()["cam"]
        assert camera["state"] == "unwatched"
        assert why in camera["error"]
        for bus in buses:
            await bus.close()
        stage.says(SEEN, closed({"frames_used": 5}))
        await buses[0].open()
        assert stage.host.starts == 2
        (block,) = await blocks(buses[0], 1)
        assert by_name(block)["frames_used"] == (5, 0)


async def test_a_worker_that_cannot_be_started_is_unavailable(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.host._command = (str(tmp_path / "nothing"),)
    with pytest.raises(DeviceUnavailable, match="cannot be started"):
        await stage.bus().open()


async def test_an_interval_of_other_streams_is_refused(tmp_path: Path) -> None:
    async with Stage(tmp_path, Closed(0, 1, [1], [0])).opened() as [bus]:
        assert (await failure(bus)).reason is Reason.GARBAGE


async def test_the_status_says_how_cameras_are_in_plain_words(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SEEN, closed({}), cameras=2)
    assert stage.host.snapshot()["cam"] == {
        "state": "unwatched",
        "error": "the vision worker has not spoken yet",
    }
    async with stage.opened() as buses:
        await blocks(buses[0], 1)
        found = stage.host.snapshot()
    assert found["cam"]["state"] == "ok"
    assert found["cam"]["last_frame_ago_s"] == 10.0
    assert found["cam-1"]["state"] == "unwatched"


async def test_who_does_not_listen_costs_no_memory_and_hears_nothing_old(tmp_path: Path) -> None:
    many = [closed({"frames_used": number}, camera=0, at_s=number) for number in range(300)]
    stage = Stage(tmp_path, *many, closed({}, camera=1), cameras=2)
    async with stage.opened() as buses:
        await blocks(buses[1], 1)
        first, *_ = await blocks(buses[0], 100)
        assert by_name(first)["frames_used"] == (200, 0), "the oldest are dropped"
        stage.host._queues[0].put_nowait(many[0])
        await buses[0].close()
        await buses[0].open()
        assert stage.host._queues[0].empty()


async def test_a_view_is_kept_for_the_next_worker_while_the_lines_are_the_same(tmp_path: Path) -> None:
    calibration = SPEC.devices[0].calibration
    learned = Learned(0, calibration, [3] * PROFILE_LENGTH, [4] * PROFILE_LENGTH, 9.5, 0.25, 2.0)
    stage = Stage(tmp_path, learned, closed({}))
    async with stage.opened() as [bus]:
        await blocks(bus, 1)
    stage.says(closed({}))
    async with stage.opened() as [bus]:
        await blocks(bus, 1)
    first, second = stage.orders()
    assert first["cameras"][0]["view"] is None
    assert second["cameras"][0]["view"] == {
        "anchor": learned.anchor,
        "slow": learned.slow,
        "sharpness": 9.5,
        "burnt": 0.25,
        "still_s": 2.0,
    }
    moved = msgspec.structs.replace(learned, calibration="another")
    for stale in (msgspec.json.encode(moved), b"\x00 torn"):
        stage.notes["cam"] = stale
        async with stage.opened() as [bus]:
            await blocks(bus, 1)
        assert stage.orders()[-1]["cameras"][0]["view"] is None
