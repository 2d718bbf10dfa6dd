"""How pictures get from a capture process to the vision worker: three slots in memory that both see.

    board   int64 x 16   newest sequence, captured, kept, last frame, state of the stream's clock, ...
    slot 0  int64 x 8    begun, done, number, time, stream time, width, height, 0
            canvas       uint8, height x width x 3
            thumbnail    uint8, height x width
    slot 1, slot 2       the same; each part starts on a multiple of 64 bytes

Frame n goes into slot n % 3. The writer sets `begun` to n, draws, sets `done` to n, then `newest` to n, then rings the
bell, an eventfd; the kernel's lock in that call orders it all before whoever is woken by it. The reader copies the
slot out (20 us for 320 x 192) and takes it if `begun` and `done` were n before and after. The writer comes back to the
slot two kept frames later, so a reader loses that race only when it was not scheduled for that long, and tries again.

The memory is a sealed memfd: it has no name that could be left behind, and its size cannot be changed, so a capture
process that was taken over by what a camera sent can write nonsense into it, but cannot crash the reader. The reader
believes nothing: it copies first and checks the copy. Where the picture lies in the canvas it computes itself.
"""

import fcntl
import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOTS = 3
GREY = 114
MIN_SIDE, MAX_SIDE, MAX_PIXELS = 16, 16_384, 7680 * 4320
_BOARD_FIELDS = 16
_HEAD_FIELDS = 8
_ALIGN = 64
NEWEST, CAPTURED, KEPT, LAST_NS, CLOCK_STATE, CLOCK_PPM, CLOCK_JUMPS = range(7)
_BEGUN, _DONE, _NUMBER, _TIME, _STREAM, _WIDTH, _HEIGHT = range(7)

Image = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class BadFrameError(ValueError):
    """What stands in a slot cannot be: the capture process is not to be trusted any more."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Where a frame lies in a canvas: `size` pixels from `pad` on, `scale` pixels for one of the frame's."""

    scale: float
    pad: tuple[int, int]
    size: tuple[int, int]


def fit(frame: tuple[int, int], canvas: tuple[int, int]) -> Fit:
    """The largest whole picture of a frame in a canvas, centred; sizes are (width, height)."""
    scale = min(canvas[0] / frame[0], canvas[1] / frame[1])
    width = min(canvas[0], max(1, round(frame[0] * scale)))
    height = min(canvas[1], max(1, round(frame[1] * scale)))
    return Fit(scale, ((canvas[0] - width) // 2, (canvas[1] - height) // 2), (width, height))


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes, (width, height), of what each slot holds."""

    canvas: tuple[int, int]
    thumbnail: tuple[int, int]

    @property
    def canvas_bytes(self) -> int:
        """Of one canvas."""
        return self.canvas[0] * self.canvas[1] * 3

    @property
    def slot_bytes(self) -> int:
        """Of one slot."""
        thumbnail = self.thumbnail[0] * self.thumbnail[1]
        return _aligned(_HEAD_FIELDS * 8) + _aligned(self.canvas_bytes) + _aligned(thumbnail)

    @property
    def total_bytes(self) -> int:
        """Of the whole memory."""
        return _aligned(_BOARD_FIELDS * 8) + SLOTS * self.slot_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One slot's parts, in place."""

    head: Numbers
    canvas: Image
    thumbnail: Image


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a frame: its number, its times in ns, and the (width, height) that it came in."""

    number: int
    time_ns: int
    stream_ns: int
    size: tuple[int, int]


def create(shape: Shape) -> int:
    """New memory of that shape: a file descriptor that is not inherited unless it is passed."""
    fd = os.memfd_create("weinao-capture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, shape.total_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


class Ring:
    """The memory as arrays. Both ends make one of the same descriptor and shape."""

    def __init__(self, fd: int, shape: Shape) -> None:
        self.shape = shape
        memory = mmap.mmap(fd, shape.total_bytes)  # unmapped when the last array on it is gone
        self.board = np.frombuffer(memory, np.int64, _BOARD_FIELDS)
        self.slots = tuple(_slot(memory, shape, number) for number in range(SLOTS))

    def clear(self) -> None:
        """Forget every frame: a new writer begins."""
        self.board[:] = 0
        for slot in self.slots:
            slot.head[:] = 0


class Writer:
    """The capture process's end."""

    def __init__(self, ring: Ring, bell: int) -> None:
        self._ring = ring
        self._bell = bell
        self._sequence = 0

    def begin(self) -> Slot:
        """The slot of the oldest frame, to draw the next one in."""
        slot = self._ring.slots[(self._sequence + 1) % SLOTS]
        slot.head[_BEGUN] = self._sequence + 1
        return slot

    def publish(self, head: Head) -> None:
        """What was drawn is the newest frame."""
        self._sequence += 1
        slot = self._ring.slots[self._sequence % SLOTS]
        slot.head[_NUMBER], slot.head[_TIME], slot.head[_STREAM] = head.number, head.time_ns, head.stream_ns
        slot.head[_WIDTH], slot.head[_HEIGHT] = head.size
        slot.head[_DONE] = self._sequence
        self._ring.board[KEPT] += 1
        self._ring.board[NEWEST] = self._sequence
        os.eventfd_write(self._bell, 1)


class Reader:
    """The worker's end. Takes the newest frame into arrays of its own."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        width, height = ring.shape.canvas
        self.canvas = np.empty((height, width, 3), np.uint8)
        self.thumbnail = np.empty(ring.shape.thumbnail[::-1], np.uint8)
        self._taken = 0
        self._last: Head | None = None

    def restart(self) -> None:
        """A new writer begins."""
        self._taken = 0
        self._last = None

    def take(self, now_ns: int) -> Head | None:
        """The newest frame if it was not taken before; `canvas` and `thumbnail` hold it until the next call.

        Raises BadFrameError when what stands there cannot be.
        """
        for _ in range(SLOTS):
            sequence = int(self._ring.board[NEWEST])
            if sequence == self._taken:
                return None
            if sequence < self._taken:
                raise BadFrameError("its frames count backwards")
            slot = self._ring.slots[sequence % SLOTS]
            head = slot.head.tolist()
            np.copyto(self.canvas, slot.canvas)
            np.copyto(self.thumbnail, slot.thumbnail)
            after = slot.head.tolist()
            if head == after and head[_BEGUN] == head[_DONE] == sequence:
                found = self._checked(head, now_ns)
                self._taken, self._last = sequence, found
                return found
        return None

    def _checked(self, head: list[int], now_ns: int) -> Head:
        found = Head(head[_NUMBER], head[_TIME], head[_STREAM], (head[_WIDTH], head[_HEIGHT]))
        if not size_is_sane(*found.size):
            raise BadFrameError(f"a frame of {found.size[0]} x {found.size[1]} pixels")
        last = self._last
        if not 0 < found.time_ns <= now_ns or (last is not None and found.time_ns <= last.time_ns):
            raise BadFrameError("a frame from another time")
        if found.stream_ns < 0 or not (0 if last is None else last.number) < found.number < 1 << 62:
            raise BadFrameError("a frame with an impossible number")
        return found


def size_is_sane(width: int, height: int) -> bool:
    """Whether a camera may send such frames."""
    return MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE and width * height <= MAX_PIXELS


def _slot(memory: mmap.mmap, shape: Shape, number: int) -> Slot:
    start = _aligned(_BOARD_FIELDS * 8) + number * shape.slot_bytes
    head = np.frombuffer(memory, np.int64, _HEAD_FIELDS, start)
    start += _aligned(_HEAD_FIELDS * 8)
    width, height = shape.canvas
    canvas = np.frombuffer(memory, np.uint8, shape.canvas_bytes, start).reshape(height, width, 3)
    start += _aligned(shape.canvas_bytes)
    width, height = shape.thumbnail
    return Slot(head, canvas, np.frombuffer(memory, np.uint8, width * height, start).reshape(height, width))


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
