"""One camera's schedule: intervals end at their times whatever the camera does, and what nobody saw is said."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from eye_kit import LIVE, SECOND, Now, SetFinder, ShownCapture, spec_of

from contract.readings import Reason
from drivers.base_camera import CaptureState, Grey
from edge.vision.eye import GRACE_NS, Eye, in_picture
from edge.vision.health import LEARN_S
from edge.vision.scene import PROFILE_LENGTH
from edge.vision.wire import Closed, Confirmed, Learned, Said, Seen

GAP = 0xC0


class Desk:
    """An eye on a desk. Its intervals end at even seconds plus `phase_s`."""

    def __init__(self, phase_s: float = 0.0) -> None:
        self.now = Now()
        self.capture = ShownCapture()
        self.finder = SetFinder()
        self.said: list[Said] = []
        self.spec = spec_of()
        self.names = [stream.name for stream in self.spec.devices[0].streams]
        phase_ns = round(phase_s * SECOND)
        self.eye = Eye(
            4, self.spec, self.capture, self.finder, self.said.append, now_ns=self.now(), phase_ns=phase_ns, model="abc"
        )

    def run(self, seconds: float, fps: float = 5.0) -> None:
        """Let time pass; a picture each 1/fps, none with fps 0."""
        end_ns = self.now() + round(seconds * SECOND)
        step_s = 1 / fps if fps else 0.1
        while self.now() + round(step_s * SECOND) <= end_ns:
            self.now.wait(step_s)
            if fps:
                self.capture.show(self.now())
            self.eye.serve(self.now(), self.now.seconds)
            if self.now() >= self.eye.next_ns:
                self.eye.tick(self.now())

    def closed(self) -> list[Closed]:
        return [said for said in self.said if isinstance(said, Closed)]

    def values(self, said: Closed, stream: str) -> tuple[object, int]:
        place = self.names.index(stream)
        return said.values[place], said.status[place]


def test_intervals_end_at_their_phase_and_the_first_says_what_of_it_was_seen() -> None:
    desk = Desk(phase_s=1.3)
    desk.run(8)
    ends = [said.time_ns for said in desk.closed()]
    assert [end % (2 * SECOND) for end in ends] == [round(1.3 * SECOND)] * 4
    assert np.diff(ends).tolist() == [2 * SECOND] * 3
    first, second = desk.closed()[:2]
    coverage, _ = desk.values(first, "coverage")
    assert coverage == pytest.approx((1.3 - 0.2) / 2, abs=0.01)  # it began at 0, and the first picture came at 0.2
    assert desk.values(first, "occupancy.all")[1] >> 6 == 1  # UNCERTAIN
    assert desk.values(second, "coverage") == (1.0, 0)
    assert desk.values(second, "frames_used") == (10, 0)
    assert desk.values(second, "model") == ("abc", 0)


def test_a_stalled_camera_is_a_gap_with_its_reason_and_never_a_zero() -> None:
    desk = Desk()
    desk.run(4)
    desk.capture.now = replace(desk.capture.now, state=CaptureState.STALLED, error="no picture for 1 s")
    desk.run(6.3, fps=0)
    value, status = desk.values(desk.closed()[-1], "crossings.middle.left")
    assert (value, status) == (None, GAP | Reason.TIMEOUT)
    assert desk.values(desk.closed()[-1], "coverage") == (0.0, 0)
    assert desk.values(desk.closed()[-1], "camera_state") == ("stalled", 0)
    last = [said for said in desk.said if isinstance(said, Seen)][-1]
    assert (last.camera, last.state, last.error, last.fps) == (4, "stalled", "no picture for 1 s", 0.0)
    desk.capture.now = replace(LIVE, connections=2, captured=desk.capture.now.captured)
    desk.run(6)
    assert desk.values(desk.closed()[-1], "coverage") == (1.0, 0)
    assert desk.values(desk.closed()[-1], "camera_state") == ("ok", 0)


def test_a_camera_that_never_was_there_is_gaps_from_the_first_interval() -> None:
    desk = Desk()
    desk.capture.now = replace(LIVE, state=CaptureState.AWAY, error="refused")
    desk.run(4.5, fps=0)
    assert [desk.values(said, "occupancy.all") for said in desk.closed()] == [(None, GAP | Reason.DISCONNECTED)] * 2


def test_a_change_is_said_before_the_interval_that_it_explains() -> None:
    desk = Desk()
    desk.run(3)
    desk.capture.now = replace(desk.capture.now, state=CaptureState.STALLED, error="silent")
    desk.said.clear()
    desk.run(3, fps=0)
    kinds = [said.state if isinstance(said, Seen) else type(said).__name__ for said in desk.said]
    assert kinds.index("stalled") < kinds.index("Closed")


def test_a_late_picture_of_the_interval_before_still_counts() -> None:
    desk = Desk()
    desk.finder.boxes = [[28.0, 10.0, 36.0, 30.0]]
    desk.run(1.8)
    desk.now.wait(0.3)
    desk.capture.show(desk.now() - round(0.2 * SECOND))  # taken before the end, looked at after it
    desk.eye.serve(desk.now(), desk.now.seconds)
    assert not desk.closed()
    desk.now.ns = desk.eye.next_ns + GRACE_NS
    desk.eye.tick(desk.now())
    assert desk.values(desk.closed()[0], "frames_used") == (10, 0)


def test_a_worker_that_slept_closes_every_interval_that_passed() -> None:
    desk = Desk()
    desk.run(2.5)
    desk.now.wait(20)
    desk.capture.show(desk.now())
    desk.eye.serve(desk.now(), desk.now.seconds)
    ends = [said.time_ns for said in desk.closed()]
    assert np.diff(ends).tolist() == [2 * SECOND] * 10
    assert desk.values(desk.closed()[-2], "crossings.middle.left") == (None, GAP | Reason.NOT_SEEN)


def test_a_picture_of_another_shape_is_another_view() -> None:
    desk = Desk()
    desk.run(2.9)
    desk.capture.size = (640, 480)
    desk.run(1.3)
    said = desk.closed()[-1]
    coverage, status = desk.values(said, "coverage")
    assert coverage == pytest.approx(0.4, abs=0.11), "what was seen in the old shape is not counted"
    desk.run(2)
    assert desk.values(desk.closed()[-1], "coverage") == (1.0, 0)
    del status


def test_what_is_learned_of_the_view_is_told_once_and_then_seldom() -> None:
    desk = Desk()
    desk.run(40)
    told = [said for said in desk.said if isinstance(said, Learned)]
    assert len(told) == 1
    assert len(told[0].anchor) == len(told[0].slow) == PROFILE_LENGTH
    assert told[0].calibration == desk.spec.devices[0].calibration


def street(shift: int = 0) -> Callable[[], Grey]:
    """Edges that stay where they are, `shift` points to the right, and a grain of noise."""
    chance = np.random.default_rng(3)
    walls = np.full((180, 460), 90)
    for _ in range(60):
        x, y, width, height = chance.integers((0, 0, 4, 4), (440, 170, 60, 60)).tolist()
        walls[y : y + height, x : x + width] = chance.integers(30, 200)
    seen = walls[:, 70 - shift : 390 - shift]

    def draw() -> Grey:
        return (seen + chance.integers(0, 4, seen.shape)).astype(np.uint8)

    return draw


def black() -> Grey:
    """The lens cap: the noise of a sensor alone."""
    return np.random.default_rng().integers(0, 2, (180, 320), dtype=np.uint8)


def stuck() -> Callable[[], Grey]:
    """One picture again and again."""
    picture = street()()
    return lambda: picture


def plain() -> Grey:
    """A sheet of paper before the lens: a soft slope of grey."""
    chance = np.random.default_rng()
    return (np.linspace(60, 120, 320)[None, :] + chance.integers(0, 3, (180, 320))).astype(np.uint8)


def confirmed(desk: Desk, *, anyway: bool = False) -> str:
    """Why it was not; nothing when it was."""
    desk.eye.confirm(9, anyway=anyway)
    answer = desk.said[-1]
    assert isinstance(answer, Confirmed)
    assert (answer.camera, answer.turn, answer.learn_s) == (4, 9, LEARN_S)
    return answer.problem


def looking(draw: Callable[[], Grey]) -> Desk:
    """It has learned a street, and now shows something else."""
    desk = Desk()
    desk.capture.draw = street()
    desk.run(40)
    desk.capture.draw = draw
    desk.run(26)
    desk.eye.tick(desk.now())
    return desk


def told_state(desk: Desk) -> str:
    return next(said.state for said in reversed(desk.said) if isinstance(said, Seen))


def test_a_view_that_a_person_confirms_is_good_from_the_next_interval_on_and_is_told_once_it_is_learned() -> None:
    desk = looking(street(shift=30))
    assert told_state(desk) == "moved"
    assert desk.values(desk.closed()[-1], "crossings.middle.left")[1] == 1 << 6 | Reason.CAMERA_MOVED
    desk.said.clear()
    assert confirmed(desk) == ""
    desk.run(2)
    assert told_state(desk) == "ok"
    desk.run(4)
    assert desk.values(desk.closed()[-1], "crossings.middle.left") == (0, 0)
    assert not [said for said in desk.said if isinstance(said, Learned)], "the old view must not come again"
    desk.run(90)
    assert {said.state for said in desk.said[6:] if isinstance(said, Seen)} == {"ok"}
    told = [said for said in desk.said if isinstance(said, Learned)]
    assert len(told) == 1


def test_what_cannot_be_seen_cannot_be_confirmed() -> None:
    desk = Desk()
    desk.capture.now = replace(LIVE, state=CaptureState.AWAY, error="192.0.2.1 refuses the connection")
    assert confirmed(desk).startswith("it shows nothing just now (192.0.2.1 refuses the connection)")
    for word, draw in (("black", black), ("frozen", stuck())):
        assert f"its picture is {word} just now" in confirmed(looking(draw), anyway=True)


def test_only_a_person_can_tell_another_view_from_a_covered_one() -> None:
    desk = looking(plain)
    assert told_state(desk) == "covered"
    assert "it seems covered" in confirmed(desk)
    assert confirmed(desk, anyway=True) == ""
    desk.run(60)
    assert told_state(desk) == "ok"
    assert desk.values(desk.closed()[-1], "coverage") == (1.0, 0)


def test_boxes_of_the_canvas_become_fractions_of_the_picture() -> None:
    desk = Desk()
    desk.capture.show(desk.now())
    look = desk.capture.look()
    assert look is not None
    desk.finder.boxes = [[0.0, 0.0, 32.0, 18.0], [-5.0, 9.0, 80.0, 99.0]]
    found = in_picture(desk.finder.detect(look.canvas), replace(look, pad=(0, 0)))
    assert found.tolist() == [[0, 0, 0.5, 0.5], [0, 0.25, 1, 1]]
    padded = replace(look, scale=0.05, pad=(16, 9))  # a picture of 32 x 18 in the middle of the canvas
    assert in_picture(desk.finder.detect(look.canvas), padded)[0].tolist() == [0, 0, 0.5, 0.5]
