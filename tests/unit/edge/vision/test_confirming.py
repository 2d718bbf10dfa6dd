"""Confirming a view of a running gateway: from the local socket to the worker, and the answer back.

The worker here is a process that answers as the test wrote down, because what is tested is who asks it.
"""

import asyncio
import errno
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from eye_kit import SECOND, spec_of

from edge.eyes import Eyes
from edge.streams import scans_of
from edge.vision.bus import VisionHost
from edge.vision.scene import PROFILE_LENGTH
from edge.vision.wire import Learned, Said, Seen, encode

ACTOR = """
import json, sys
def say(line):
    sys.stdout.write(line)
    sys.stdout.flush()
order = sys.stdin.readline()
open(sys.argv[1], "a").write(order)
say(open(sys.argv[2]).read())
for line in sys.stdin:
    heard = json.loads(line)
    if sys.argv[3] == "dies":
        sys.exit(9)
    if sys.argv[3] != "silent":
        say(open(sys.argv[4]).read())
        say(json.dumps({"type": "confirmed", "problem": sys.argv[3], "learn_s": 30, **heard}) + chr(10))
"""
SPECS = [spec_of("gate"), spec_of("yard")]
CALIBRATION = SPECS[1].devices[0].calibration
SEEN = [Seen(number, "moved", "", 5.0, 1.5, 100, 50, 0, 1, 0, 90 * SECOND) for number in range(2)]
LEARNED = Learned(1, CALIBRATION, [3] * PROFILE_LENGTH, [4] * PROFILE_LENGTH, 9.5, 0.25, 2.0)


class Stage:
    """A host whose worker says `lines` first, and `before` each answer, which is `problem`."""

    def __init__(self, folder: Path, *, problem: str = "", lines: list[Said] | None = None, before: str = "") -> None:
        self.folder = folder
        said = SEEN if lines is None else lines
        (folder / "lines").write_bytes(b"".join(encode(line) for line in said))
        (folder / "before").write_text(before)
        self.notes: dict[str, bytes] = {}
        self.full = False
        files = [str(folder / name) for name in ("orders", "lines", "before")]
        self.host = VisionHost(
            SPECS,
            Path("models"),
            "cpu",
            offset_ns=lambda: 0,
            load_view=self.notes.get,
            save_view=self._save,
            command=(sys.executable, "-c", ACTOR, files[0], files[1], problem, files[2]),
            answer_s=0.3 if problem == "silent" else 20,
        )
        self.eyes = Eyes(lambda: 0, lambda _: None, lambda *_: None)
        self.eyes._host = self.host

    def _save(self, name: str, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.notes[name] = data

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        buses = [self.host.bus(spec, scans_of(spec.devices[0])) for spec in SPECS]
        for bus in buses:
            await bus.open()
        try:
            async with asyncio.timeout(20):
                while len(self.host.seen) < len(SPECS):  # noqa: ASYNC110 - another process says so
                    await asyncio.sleep(0.01)
            yield
        finally:
            for bus in buses:
                await bus.close()

    async def confirm(self, camera: Any = "yard", **more: Any) -> dict[str, Any]:
        return await self.eyes.confirm({"camera": camera, "calibration": CALIBRATION, **more})

    async def refusal(self, camera: Any = "yard", **more: Any) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at the words
            await self.confirm(camera, **more)
        return str(caught.value)

    def orders(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "orders").read_text().splitlines()]


async def test_a_confirmed_view_is_answered_logged_and_not_remembered_by_the_next_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the worker told the old view a moment before it was asked."""
    caplog.set_level("INFO")
    stage = Stage(tmp_path, before=encode(LEARNED).decode())
    async with stage.opened():
        assert await stage.confirm() == {"camera": "yard", "learn_s": 30.0}
        assert "the view of yard was confirmed by a person" in caplog.text
    async with stage.opened():
        pass
    assert [camera["view"] for camera in stage.orders()[-1]["cameras"]] == [None, None]
    assert "not readable" not in caplog.text


async def test_what_the_worker_says_against_it_is_told_and_the_old_view_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path, problem="its picture is black just now", lines=[*SEEN, LEARNED])
    async with stage.opened():
        assert await stage.refusal(anyway=True) == "its picture is black just now"
    assert stage.notes["yard"]


async def test_two_people_get_an_answer_each(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    async with stage.opened():
        found = await asyncio.gather(stage.confirm("yard"), stage.confirm("gate"), stage.confirm("yard"))
    assert [one["camera"] for one in found] == ["yard", "gate", "yard"]


async def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert "nobody watches it: the vision worker has not spoken yet" in await stage.refusal()
    async with stage.opened():
        unknown = await stage.refusal("yrad")
        assert "no camera 'yrad', but: gate, yard" in unknown
        assert "restart it" in unknown
        assert "other lines, zones, masks or ground" in await stage.refusal(calibration="of-yesterday")
        assert "expected 'camera' and 'calibration'" in await stage.refusal(3)
        assert "expected 'camera' and 'calibration'" in await stage.refusal(calibration=None)
    blind = Eyes(lambda: 0, lambda _: None, lambda *_: None)
    with pytest.raises(ValueError, match="has no camera"):
        await blind.confirm({"camera": "yard", "calibration": CALIBRATION})


async def test_a_worker_that_is_silent_or_dies_leaves_nobody_waiting(tmp_path: Path) -> None:
    silent = Stage(tmp_path, problem="silent")
    async with silent.opened():
        assert "no answer within 0.3 s" in await silent.refusal()
    dying = Stage(tmp_path, problem="dies")
    async with dying.opened():
        assert "ended by itself, status 9; confirm again" in await dying.refusal()
        assert "nobody watches it: the vision worker ended by itself, status 9" in await dying.refusal()


async def test_what_a_full_disk_would_undo_at_the_next_start_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.full = True
    async with stage.opened():
        told = await stage.refusal()
    assert told == "confirmed until a restart only: it cannot be kept on disk (No space left on device)"
