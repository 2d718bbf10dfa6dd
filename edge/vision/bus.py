"""Why: to the supervisor a camera is a device that speaks when it likes; behind it stands a process that looks.

`VisionHost` keeps that process for all cameras of the gateway: it starts it with the first bus that opens, hears what
it says, replaces it when it ends or falls silent, and ends it with the last bus. `VisionBus` turns the intervals of one
camera into blocks. The gateway's own process never holds a picture (edge/vision/wire.py).
"""

import asyncio
import hashlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import DeviceUnavailable
from contract.readings import Kind, Reason, Value, gap
from drivers.base import Block, BusSpec, Scan, StreamSpec
from drivers.base_camera import CameraBusSpec
from edge.config import GatewayConfig
from edge.vision.confirming import ANSWER_S, Confirmations
from edge.vision.wire import (
    LINE_BYTES,
    CameraOrder,
    Closed,
    Confirmed,
    Learned,
    Order,
    Refused,
    Seen,
    decode,
    encode_order,
)

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "gateway", "vision-worker")
START_S = 60.0
"""The worker loads and proves its models first: on a small board that takes its time."""
SILENT_S = 15.0
"""Afterwards it says how each camera is every second."""
END_S = 2.0
LINGER_S = 1.0
"""A worker that has closed its output gets so long to end by itself."""
_INTERVALS_WAITING = 100
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Nothing there multiplies large matrices, and each thread that waits for some takes memory."""

_Queue = asyncio.Queue[Closed | DeviceUnavailable]


class VisionHost:
    """The vision worker of a gateway. models: folder of models. provider: of onnxruntime.

    offset_ns: UTC minus CLOCK_BOOTTIME, None while not known; intervals are aligned to it as it is when the worker
    starts. load_view, save_view: what was learned of a camera's view, by the camera's name; nothing while it is learned
    anew. save_view may raise OSError.
    """

    def __init__(
        self,
        specs: Sequence[CameraBusSpec],
        models: Path,
        provider: str,
        *,
        offset_ns: Callable[[], int | None],
        load_view: Callable[[str], bytes | None],
        save_view: Callable[[str, bytes], None],
        command: Sequence[str] = COMMAND,
        silent_s: float = SILENT_S,
        answer_s: float = ANSWER_S,
        now_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self.seen: dict[str, Seen] = {}
        self.starts = 0
        self._specs = list(specs)
        self._models = models
        self._provider = provider
        self._offset_ns = offset_ns
        self._load_view = load_view
        self._save_view = save_view
        self._command = tuple(command)
        self._silent_s = silent_s
        self._now_ns = now_ns
        self._lock = asyncio.Lock()
        self._users: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._queues: list[_Queue] = []
        self._trouble = ""
        self._confirmations = Confirmations(answer_s)

    def bus(self, spec: BusSpec, scans: Sequence[Scan]) -> "VisionBus":
        """The bus of one of the cameras."""
        number = next(number for number, camera in enumerate(self._specs) if camera is spec)
        return VisionBus(self, number, self._specs[number], scans)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """How each camera is, by name, as plain JSON values; one that nobody watches says why."""
        now_ns = self._now_ns()
        return {
            name: _told(self.seen[name], now_ns)
            if name in self.seen
            else {"state": "unwatched", "error": self._trouble or "the vision worker has not spoken yet"}
            for name in (spec.devices[0].name for spec in self._specs)
        }

    async def open(self, camera: int) -> None:
        """Have the worker run. Raises DeviceUnavailable."""
        async with self._lock:
            self._users.add(camera)
            if self._process is not None and self._hearing is not None and not self._hearing.done():
                _emptied(self._queues[camera])  # what ended while nobody listened is explained already
                return
            await self._end()
            await self._start()

    async def close(self, camera: int) -> None:
        """This bus needs no worker any more; the last one ends it."""
        async with self._lock:
            self._users.discard(camera)
            if not self._users:
                await self._end()

    async def next(self, camera: int) -> Closed:
        """The next interval of a camera. Raises DeviceUnavailable when the worker is gone."""
        if not self._queues:
            raise self._gone("the vision worker is not running")
        found = await self._queues[camera].get()
        if isinstance(found, DeviceUnavailable):
            raise found
        return found

    async def confirm(self, name: str, calibration: str, *, anyway: bool = False) -> float:
        """Have a camera's present view taken for the calibrated one, also after a restart; for how many seconds it is
        learned anew. Raises ValueError that says why not, and what to do."""
        stdin = self._watching(name, calibration)
        camera = next(number for number, spec in enumerate(self._specs) if spec.devices[0].name == name)
        found = await self._confirmations.ask(camera, stdin.write, anyway=anyway)
        if found.problem:
            raise ValueError(found.problem)
        return found.learn_s

    def _watching(self, name: str, calibration: str) -> asyncio.StreamWriter:
        """Where the worker that watches a camera with this calibration hears. Raises ValueError when none does."""
        cameras = {spec.devices[0].name: spec.devices[0] for spec in self._specs}
        if name not in cameras:
            raise ValueError(
                f"the gateway that runs has no camera {name!r}, but: {', '.join(cameras)}. "
                "Was the configuration changed? Then restart it"
            )
        if cameras[name].calibration != calibration:
            raise ValueError(
                "the gateway still runs with other lines, zones, masks or ground than the configuration: restart it; "
                "it then takes what it sees for right"
            )
        if self._process is None or self._process.stdin is None or name not in self.seen:
            raise ValueError(f"nobody watches it: {self._trouble or 'the vision worker has not spoken yet'}")
        return self._process.stdin

    async def _start(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES,
                env={**os.environ, **ENVIRONMENT},
            )
        except OSError as error:
            raise self._gone(f"the vision worker cannot be started: {error.strerror}") from None
        self.starts += 1
        self._process = process
        self._queues = [asyncio.Queue(_INTERVALS_WAITING) for _ in self._specs]
        if process.stdin is not None:
            process.stdin.write(encode_order(self._order()) + b"\n")
        self._hearing = asyncio.create_task(self._hear(process, self._queues), name="vision-hear")

    def _order(self) -> Order:
        offset_ns = self._offset_ns() or 0
        cameras = []
        for spec in self._specs:
            interval_ns = round(spec.devices[0].interval_s * 1e9)
            data = self._load_view(spec.devices[0].name)
            view = _view_of(data, spec.devices[0].calibration) if data else None
            cameras.append(CameraOrder(_plain(spec), -offset_ns % interval_ns, view))
        return Order(cameras, str(self._models), self._provider)

    async def _hear(self, process: asyncio.subprocess.Process, queues: Sequence[_Queue]) -> None:
        """Until the worker ends, or is ended because it says nothing or nonsense."""
        why = ""
        patience_s = START_S
        try:
            while process.stdout is not None:
                async with asyncio.timeout(patience_s):
                    line = await process.stdout.readline()
                if not line:
                    break
                patience_s = self._silent_s
                why = self._take(line, queues) or why
        except TimeoutError:
            why = f"the vision worker said nothing for {patience_s:.0f} s"
        except ValueError as error:
            why = str(error)
        finally:
            code = await _ended(process, patience_s=0 if why else LINGER_S)
        self._trouble = why or _how_it_ended(code)
        self.seen.clear()
        for queue in queues:
            _put(queue, self._gone(self._trouble))
        self._confirmations.abandon(self._trouble)

    def _take(self, line: bytes, queues: Sequence[_Queue]) -> str:
        """What the worker says; a sentence when it cannot begin. Raises ValueError for nonsense."""
        said = decode(line)
        if isinstance(said, Refused):
            return "; ".join(said.problems)
        if not 0 <= said.camera < len(queues):
            raise ValueError(f"the vision worker speaks of a camera {said.camera}")
        name = self._specs[said.camera].devices[0].name
        if isinstance(said, Closed):
            _put(queues[said.camera], said)
        elif isinstance(said, Learned):
            self._keep(name, msgspec.json.encode(said))
        elif isinstance(said, Confirmed):
            self._confirmed(name, said)
        else:
            self.seen[name] = said
        return ""

    def _confirmed(self, name: str, said: Confirmed) -> None:
        """What was learned before is forgotten: a worker that starts before the new view is known learns it, too."""
        if not said.problem:
            log.info("the view of %s was confirmed by a person; it is learned anew", name)
            if trouble := self._keep(name, b""):
                said = msgspec.structs.replace(said, problem=f"confirmed until a restart only: {trouble}")
        self._confirmations.answered(said)

    def _keep(self, name: str, data: bytes) -> str:
        """Save a view; what is wrong when that fails."""
        try:
            self._save_view(name, data)
        except OSError as error:
            log.warning("what was learned of the view of %s cannot be kept on disk: %s", name, error)
            return f"it cannot be kept on disk ({error.strerror or error})"
        return ""

    async def _end(self) -> None:
        """Ask the worker to end by closing its input; after a while it has no choice."""
        process, hearing = self._process, self._hearing
        self._process = self._hearing = None
        if process is None or hearing is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await asyncio.shield(hearing)
        if not hearing.done():
            with suppress(ProcessLookupError):
                process.kill()
            await hearing

    @staticmethod
    def _gone(text: str) -> DeviceUnavailable:
        return DeviceUnavailable(Reason.DISCONNECTED, text, whole_bus=True)


async def _ended(process: asyncio.subprocess.Process, *, patience_s: float) -> int:
    """Its status, as it ended by itself within a time, or by force.

    Not killed at once: kill() looks whether the process is there, and that look takes its status away from wait().
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            return await process.wait()
    with suppress(ProcessLookupError):
        process.kill()
    return await process.wait()


def _put(queue: _Queue, found: Closed | DeviceUnavailable) -> None:
    """Its reader may be gone; the newest is worth most, and what is lost is explained by the bus's silence."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(found)


def _emptied(queue: _Queue) -> None:
    while not queue.empty():
        queue.get_nowait()


def _told(seen: Seen, now_ns: int) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(seen)
    for key in ("type", "camera"):
        plain.pop(key)
    last_ns = plain.pop("last_frame_ns")
    plain["last_frame_ago_s"] = round((now_ns - last_ns) / 1e9, 1) if last_ns else None
    return plain


def _how_it_ended(code: int) -> str:
    with suppress(ValueError):
        if code < 0:
            return f"the vision worker was ended by {signal.Signals(-code).name}"
    return f"the vision worker ended by itself, status {code}"


def host_of(
    config: GatewayConfig,
    *,
    offset_ns: Callable[[], int | None],
    load_note: Callable[[str], bytes | None],
    save_note: Callable[[str, bytes], None],
) -> VisionHost:
    """For the cameras of a configuration; one without cameras is never started."""
    cameras = [bus for bus in config.buses if isinstance(bus, CameraBusSpec)]
    section = config.file.vision

    return VisionHost(
        cameras,
        section.folder,
        section.provider,
        offset_ns=offset_ns,
        load_view=lambda name: load_note(_note_of(name)),
        save_view=lambda name, data: save_note(_note_of(name), data),
    )


class VisionBus:
    """One camera, as a ListeningBus."""

    def __init__(self, host: VisionHost, camera: int, spec: CameraBusSpec, scans: Sequence[Scan]) -> None:
        (self._scan,) = scans  # all streams of a camera share its interval
        self._host = host
        self._camera = camera
        order = {stream.name: place for place, stream in enumerate(spec.devices[0].streams)}
        self._places = [order[stream.name] for stream in self._scan.streams]

    async def open(self) -> None:
        """Have the camera watched. Raises DeviceUnavailable."""
        await self._host.open(self._camera)

    async def close(self) -> None:
        """Have it watched no longer. Never raises."""
        await self._host.close(self._camera)

    async def listen(self) -> AsyncIterator[Block]:
        """A block an interval. Raises DeviceUnavailable when the worker is gone."""
        while True:
            closed = await self._host.next(self._camera)
            if len(closed.values) != len(self._places) or len(closed.status) != len(self._places):
                raise DeviceUnavailable(Reason.GARBAGE, "the vision worker counts other streams", whole_bus=True)
            yield self._block(closed)

    def _block(self, closed: Closed) -> Block:
        scan = self._scan
        block = Block.empty(scan, closed.time_ns)
        for position, (stream, place) in enumerate(zip(scan.streams, self._places, strict=True)):
            value, code = closed.values[place], closed.status[place]
            block.status[position] = code
            if value is None or not _fits(stream, value):
                if code >> 6 != gap(Reason.NONE) >> 6:
                    block.status[position] = gap(Reason.UNDECODABLE)
            elif stream.type is Kind.FLOAT:
                block.floats[position] = value
            elif stream.type is Kind.TEXT:
                block.texts[position - scan.n_floats - scan.n_ints] = str(value)
            else:
                block.ints[position - scan.n_floats] = value
        return block


def _fits(stream: StreamSpec, value: Value) -> bool:
    if stream.type is Kind.TEXT:
        return isinstance(value, str)
    if stream.type is Kind.FLOAT:
        return isinstance(value, int | float)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _note_of(camera: str) -> str:
    """A note's name for a camera whatever its own: notes have names of small letters."""
    return f"view-{hashlib.sha256(camera.encode()).hexdigest()[:16]}"


def _plain(spec: CameraBusSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _view_of(data: bytes, calibration: str) -> dict[str, Any] | None:
    """A view that was saved. One that cannot be read is learned again; so is one in which other lines were drawn,
    for whoever drew the new ones looked at the picture."""
    try:
        learned = msgspec.json.decode(data, type=Learned)
    except msgspec.MsgspecError as error:
        log.warning("what was learned of a camera's view is not readable: %s; it is learned again", error)
        return None
    if learned.calibration != calibration:
        return None
    return {name: getattr(learned, name) for name in ("anchor", "slow", "sharpness", "burnt", "still_s")}
