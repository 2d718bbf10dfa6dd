"""Cameras share one worker: fairly, also when it cannot keep up; each failure ends what it must and nothing else."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from eye_kit import SECOND, Now, SetFinder, ShownCapture, spec_of

from contract.errors import Fatal
from drivers.base import Driver
from drivers.base_camera import CameraBusSpec
from edge.vision import worker as worker_module
from edge.vision.orders import Orders
from edge.vision.wire import CameraOrder, Closed, Confirm, Confirmed, Order, Refused, Said, Seen, decode, encode_order
from edge.vision.worker import Worker, main


class Street:
    """The registry of a gateway whose cameras are ShownCaptures."""

    def __init__(self) -> None:
        self.captures: list[ShownCapture] = []

    def get(self, name: str) -> Driver:
        assert name == "camera"

        def capture(spec: CameraBusSpec, canvas: tuple[int, int]) -> ShownCapture:
            del spec, canvas
            self.captures.append(ShownCapture())
            return self.captures[-1]

        return Driver(name="camera", bus_spec=CameraBusSpec, connect=_no_bus, capture=capture)

    def names(self) -> list[str]:
        return ["camera"]

    def profiles(self) -> list[Any]:
        return []

    def expand(self, device: dict[str, Any], driver: str) -> dict[str, Any]:
        del driver
        return device


def _no_bus(*_: object) -> Any:
    raise AssertionError("a camera is no bus")


def order(*specs: CameraBusSpec, models: str = "models") -> Order:
    return Order([CameraOrder(spec.model_dump(mode="json"), 0, None) for spec in specs], models, "cpu")


class Shift:
    """A worker at work in virtual time: each inference takes `work_s`, each camera shows `fps` pictures a second."""

    def __init__(self, cameras: int, work_s: float, fps: float) -> None:
        self.now, self.street, self.said = Now(), Street(), list[Said]()
        self.period_ns = round(SECOND / fps)
        self.finder = SetFinder(work=lambda: self.pass_s(work_s))
        specs = [spec_of(f"cam-{number}") for number in range(cameras)]
        self.begin_ns = self.now()
        self.next_ns = [self.now() + (number + 1) * 7_000_000 for number in range(cameras)]
        self.end, self._write = os.pipe()
        self.worker = Worker(
            order(*specs),
            self.street,
            self.said.append,
            load=lambda _: (self.finder, "abc"),
            clock_ns=self.clock,
            wait_most_s=0,
        )

    def clock(self) -> int:
        """Time passes a little at each look at the clock, so that nothing waits for ever."""
        self.pass_s(0.002)
        return self.now()

    def pass_s(self, seconds: float) -> None:
        self.now.wait(seconds)
        for number, capture in enumerate(self.street.captures):
            if self.now() >= self.next_ns[number] and not capture.closed:
                while self.next_ns[number] <= self.now():
                    capture.show(self.next_ns[number])
                    self.next_ns[number] += self.period_ns
        if self.now() > self.begin_ns + 60 * SECOND and self._write >= 0:
            os.close(self._write)  # the gateway goes
            self._write = -1

    def hears(self, data: bytes) -> None:
        """The gateway says something."""
        os.write(self._write, data)

    def run(self) -> None:
        try:
            self.worker.run(Orders(self.end))
        finally:
            self.worker.close()
            os.close(self.end)

    def fps(self, camera: int) -> list[float]:
        """As it was told, second by second, without the first two."""
        return [said.fps for said in self.said if isinstance(said, Seen) and said.camera == camera][2:]

    def used(self, camera: int, stream: str) -> int:
        place = [one.name for one in spec_of().devices[0].streams].index(stream)
        found = [said.values[place] for said in self.said if isinstance(said, Closed) and said.camera == camera]
        return sum(value for value in found if isinstance(value, int))


def test_cameras_get_all_they_ask_for_while_there_is_time() -> None:
    shift = Shift(cameras=2, work_s=0.02, fps=5)
    shift.run()
    for camera in range(2):
        assert shift.used(camera, "frames_used") >= 5 * 56
        assert shift.used(camera, "frames_dropped") <= 2


def test_under_overload_the_looks_fall_evenly_and_are_told() -> None:
    """Three cameras want 15 looks a second, there is time for 4."""
    shift = Shift(cameras=3, work_s=0.25, fps=5)
    shift.run()
    used = [shift.used(camera, "frames_used") for camera in range(3)]
    assert sum(used) == pytest.approx(4 * 58, rel=0.05)
    assert max(used) - min(used) <= 3, used
    for camera in range(3):
        told = shift.fps(camera)
        assert sum(told) / len(told) == pytest.approx(4 / 3, rel=0.1)
        assert shift.used(camera, "frames_dropped") == pytest.approx((5 - 4 / 3) * 58, rel=0.1)


def test_a_camera_that_shows_more_takes_nothing_from_another() -> None:
    """One camera always has a picture waiting, the other three a second; an inference takes 150 ms."""
    shift = Shift(cameras=2, work_s=0.15, fps=3)

    def work() -> None:
        shift.street.captures[0].show(shift.now())
        shift.pass_s(0.15)

    shift.finder.work = work
    shift.run()
    assert shift.used(1, "frames_used") >= 3 * 55
    assert shift.used(0, "frames_used") >= 3 * 55


def test_confirmations_are_answered_by_their_cameras_while_everybody_is_looked_at() -> None:
    """Two come at once, right behind the order; one comes in pieces."""
    shift = Shift(cameras=2, work_s=0.02, fps=5)
    lines = [encode_order(Confirm(1, 7)) + b"\n", encode_order(Confirm(0, 8)) + b"\n", encode_order(Confirm(1, 9))]
    shift.hears(b"".join(lines[:2]))
    pieces = iter([lines[2][:9], lines[2][9:], b"\n"])

    def work() -> None:
        shift.pass_s(0.02)
        if shift.finder.asked > 20 and (piece := next(pieces, None)):
            shift.hears(piece)

    shift.finder.work = work
    shift.run()
    answers = [(said.camera, said.turn) for said in shift.said if isinstance(said, Confirmed)]
    assert answers == [(1, 7), (0, 8), (1, 9)]
    assert shift.used(0, "frames_used") >= 5 * 56


@pytest.mark.parametrize("line", [b"hello\n", b"\n", encode_order(Confirm(2, 1)) + b"\n"])
def test_what_is_no_order_ends_the_worker_and_frees_every_camera(line: bytes) -> None:
    shift = Shift(cameras=2, work_s=0.02, fps=5)
    shift.hears(line)
    with pytest.raises(Fatal, match="the gateway s"):
        shift.run()
    assert [capture.closed for capture in shift.street.captures] == [True, True]


def test_a_gateway_that_says_line_without_end_is_none() -> None:
    read, write = os.pipe()
    orders = Orders(read)
    with pytest.raises(ValueError, match="more than"):  # noqa: PT012 - until it is too much
        for _ in range(2 * 16 * 1024 * 1024 // 32_768):
            os.write(write, b"x" * 32_768)
            orders.read()
    os.close(read)
    os.close(write)


def gateway(line: bytes) -> tuple[int, list[Said]]:
    """Runs `main` with an order on its standard input; the exit code, and what it said."""
    read, write = os.pipe()
    os.write(write, line)
    os.close(write)
    sink = io.BytesIO()
    with os.fdopen(read, "rb") as source:
        code = main(Street(), source, sink)
    return code, [decode(said) for said in sink.getvalue().splitlines(keepends=True)]


def test_an_order_that_cannot_be_worked_off_is_refused_in_words(tmp_path: Path) -> None:
    code, said = gateway(encode_order(order(spec_of(), models=str(tmp_path))) + b"\n")
    assert code == 2
    (refused,) = said
    assert isinstance(refused, Refused)
    assert "any.yaml" in refused.problems[0]


@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", json.dumps({"cameras": [{}], "models": "m"}).encode() + b"\n"])
def test_nonsense_is_refused(line: bytes) -> None:
    code, said = gateway(line)
    assert code == 2
    assert [type(one) for one in said] == [Refused]


def test_a_model_that_fails_at_work_ends_the_worker_and_frees_every_camera() -> None:
    shift = Shift(cameras=2, work_s=0.01, fps=5)

    def fail() -> None:
        raise Fatal("the accelerator is gone")

    shift.finder.work = fail
    with pytest.raises(Fatal, match="accelerator"):
        shift.run()
    assert [capture.closed for capture in shift.street.captures] == [True, True]


def test_a_view_that_cannot_be_is_refused_and_no_camera_stays_open() -> None:
    street = Street()
    broken = Order(
        [
            CameraOrder(spec_of("a").model_dump(mode="json"), 0, None),
            CameraOrder(spec_of("b").model_dump(mode="json"), 0, {"anchor": [1]}),
        ],
        "models",
        "cpu",
    )
    with pytest.raises(ValueError, match="numbers"):
        Worker(broken, street, lambda _: None, load=lambda _: (SetFinder(), "abc"))
    assert [capture.closed for capture in street.captures] == [True, True]


def test_the_worker_gives_way_to_sensors() -> None:
    assert worker_module.NICENESS > 0
