"""Pictures through shared memory, and a writer that is not to be trusted."""

import fcntl
import os
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.camera_picture import Painter
from drivers.camera_ring import (
    CAPTURED,
    NEWEST,
    BadFrameError,
    Head,
    Reader,
    Ring,
    Shape,
    Slot,
    Writer,
    create,
    fit,
)

SHAPE = Shape((64, 48), (32, 18))
NOW = 1 << 50


@pytest.fixture
def memory() -> Iterator[int]:
    fd = create(SHAPE)
    yield fd
    os.close(fd)


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def put(writer: Writer, number: int, *, time_ns: int | None = None, size: tuple[int, int] = (640, 480)) -> Slot:
    slot = writer.begin()
    slot.canvas[:] = number
    slot.thumbnail[:] = number + 1
    writer.publish(Head(number, number * 1000 if time_ns is None else time_ns, 5, size))
    return slot


def test_the_newest_frame_is_taken_once(memory: int, bell: int) -> None:
    writer, reader = Writer(Ring(memory, SHAPE), bell), Reader(Ring(memory, SHAPE))
    assert reader.take(NOW) is None
    for number in (1, 2, 3, 4, 5):
        put(writer, number)
    assert os.eventfd_read(bell) == 5
    assert reader.take(NOW) == Head(5, 5000, 5, (640, 480))
    assert (reader.canvas == 5).all()
    assert (reader.thumbnail == 6).all()
    assert reader.canvas.shape == (48, 64, 3)
    assert reader.take(NOW) is None


def test_a_frame_that_is_being_drawn_over_is_not_taken(memory: int, bell: int) -> None:
    ring = Ring(memory, SHAPE)
    writer, reader = Writer(ring, bell), Reader(Ring(memory, SHAPE))
    put(writer, 1)
    ring.slots[1].head[0] = 4  # the writer came round to this slot
    assert reader.take(NOW) is None
    put(writer, 2)
    found = reader.take(NOW)
    assert found is not None
    assert found.number == 2


def test_what_was_taken_does_not_change_afterwards(memory: int, bell: int) -> None:
    ring = Ring(memory, SHAPE)
    writer, reader = Writer(ring, bell), Reader(ring)
    slot = put(writer, 1)
    reader.take(NOW)
    slot.canvas[:] = 99
    assert (reader.canvas == 1).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (2, 0, "impossible number"),
        (2, -5, "impossible number"),
        (3, 0, "another time"),
        (3, NOW + 1, "another time"),
        (4, -1, "impossible number"),
        (5, 0, "pixels"),
        (5, 1 << 40, "pixels"),
        (6, -480, "pixels"),
        (6, 16_000, None),
    ],
)
def test_an_impossible_header_is_refused(memory: int, bell: int, field: int, value: int, message: str | None) -> None:
    writer, ring = Writer(Ring(memory, SHAPE), bell), Ring(memory, SHAPE)
    put(writer, 1)
    ring.slots[1].head[field] = value
    if message is None:
        assert Reader(ring).take(NOW) is not None
        return
    with pytest.raises(BadFrameError, match=message):
        Reader(ring).take(NOW)


def test_frames_never_go_back(memory: int, bell: int) -> None:
    ring = Ring(memory, SHAPE)
    writer, reader = Writer(ring, bell), Reader(ring)
    put(writer, 7)
    reader.take(NOW)
    put(writer, 7, time_ns=8000)
    with pytest.raises(BadFrameError, match="impossible number"):
        reader.take(NOW)
    put(writer, 8, time_ns=7000)
    with pytest.raises(BadFrameError, match="another time"):
        reader.take(NOW)
    for newest in (0, -1, 2):
        ring.board[NEWEST] = newest
        with pytest.raises(BadFrameError, match="backwards") if newest < 1 else pytest.raises(BadFrameError):
            reader.take(NOW)


def test_nonsense_on_the_board_is_bounded(memory: int, bell: int) -> None:
    del bell
    ring = Ring(memory, SHAPE)
    ring.board[NEWEST] = (1 << 63) - 1
    assert Reader(ring).take(NOW) is None
    ring.board[CAPTURED] = -1
    ring.clear()
    assert not ring.board.any()


def test_nobody_can_shrink_the_memory_under_the_reader(memory: int) -> None:
    for size in (0, SHAPE.total_bytes - 1, SHAPE.total_bytes + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert not os.get_inheritable(memory)


@pytest.mark.parametrize(
    ("frame", "canvas", "scale", "pad", "size"),
    [
        ((1280, 720), (320, 192), 0.25, (0, 6), (320, 180)),
        ((640, 480), (320, 192), 0.4, (32, 0), (256, 192)),
        ((320, 192), (320, 192), 1.0, (0, 0), (320, 192)),
        ((160, 96), (320, 192), 2.0, (0, 0), (320, 192)),
        ((16_384, 16), (320, 192), 320 / 16_384, (0, 95), (320, 1)),
    ],
)
def test_fit(
    frame: tuple[int, int], canvas: tuple[int, int], scale: float, pad: tuple[int, int], size: tuple[int, int]
) -> None:
    found = fit(frame, canvas)
    assert found.scale == pytest.approx(scale)
    assert (found.pad, found.size) == (pad, size)


def painted(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], masks: list[list[list[float]]]) -> Slot:
    shape = Shape((320, 192), (320, 180))
    fd = create(shape)
    slot = Ring(fd, shape).slots[0]
    os.close(fd)
    slot.canvas[:] = 7
    Painter((320, 192), (320, 180), masks).paint(frame, slot)
    return slot


def test_a_picture_is_scaled_padded_and_grey() -> None:
    frame = np.full((480, 640, 3), (200, 0, 0), np.uint8)
    slot = painted(frame, [])
    assert (slot.canvas[:, :32] == 114).all()
    assert (slot.canvas[:, 288:] == 114).all()
    assert (slot.canvas[:, 32:288] == (200, 0, 0)).all()
    assert (slot.thumbnail == 23).all()  # 0.114 * 200


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1919, 1081), (160, 90)])
def test_no_pixel_of_a_mask_is_seen_and_none_beside_it_is_lost(size: tuple[int, int]) -> None:
    width, height = size
    secret = np.zeros((height, width, 3), np.uint8)
    secret[height // 4 : height // 2, width // 4 : width // 2] = 255
    corners = [[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.25, 0.5]]
    slot = painted(secret, [corners])
    fitted = fit(size, (320, 192))
    (left, top), (wide, high) = fitted.pad, fitted.size
    assert not slot.canvas[top : top + high, left : left + wide].any()
    assert not slot.thumbnail.any()
    slot = painted(np.full((height, width, 3), 255, np.uint8), [corners])
    bright = slot.thumbnail > 250
    assert bright[:43].all()
    assert bright[:, 163:].all()
    assert 0.92 < bright.mean() < 0.95  # all but a sixteenth
