"""Why: lines and zones are drawn by a person who looks at the picture, and the gateway itself must never show one.

`weinao-gateway aim` is a process of its own. It opens the camera a second time, through the same capture, masks and
detector as the gateway, and shows what it sees on loopback or in a file, until it is ended; nothing of it stays. People
and vehicles are pixelated unless the technician asks for more, and all of the picture is when nobody can look for them.
"""

import select
import time
from collections import Counter as Tally
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from contract.errors import ConfigError
from drivers.base_camera import CameraBusSpec, CameraDeviceSpec, Capture, Look, OpenCapture, Picture
from edge.vision.aim_file import PictureFile
from edge.vision.aim_page import Page
from edge.vision.aim_picture import CANVAS, Found, Notes, Veil, annotate, card, find, picture_of
from edge.vision.counter import Counter
from edge.vision.eye import Finder
from edge.vision.probe import hints
from models import registry as models
from models.sessions import Provider

SLICE_S = 0.25
QUIET_S = 1.5
"""Without a picture for so long, the card that says why is shown."""
FILE_S = 1.0
"""A file is renewed so often; a page gets every picture."""
QUALITY = 80


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was typed. port: of the page, 0 for any. file: a picture there instead of a page. seconds: when to end."""

    port: int = 0
    file: Path | None = None
    reveal: bool = False
    grid: bool = False
    seconds: float = 600.0


@dataclass(slots=True)
class Artist:
    """Turns looks into pictures for people. finder: None when no detector can be had; least: what it must score."""

    camera: CameraDeviceSpec
    finder: Finder | None
    least: float
    wishes: Wishes
    veil: Veil = field(default_factory=Veil)
    passed: Tally[tuple[int, int]] = field(default_factory=Tally)
    _counter: Counter | None = None

    def draw(self, look: Look, now: datetime) -> Picture:
        """The look as a technician may see it, with everything that the configuration drew on it."""
        seen = picture_of(look)
        found = find(seen, self.finder) if self.finder is not None else None
        picture = seen if self.wishes.reveal else self.veil.over(seen, found, look.time_ns)
        counting = found.counting(self.least, self.camera.classes) if found is not None else None
        if counting is not None and self.finder is not None:
            self._count(look, counting, self.finder)
        troubles = hints(look.thumbnail)
        words = [f"{self.camera.name if self.camera.name.isascii() else 'camera'}  {now:%H:%M:%S}", *troubles]
        if self.finder is None:
            words.append("NO DETECTOR: all is pixelated; see the terminal")
        if self.wishes.reveal:
            words.append("REVEALED: people can be recognised")
        shown = counting.shown() if counting is not None else []
        annotate(picture, self.camera, shown, Notes(words, not words[1:], dict(self.passed)), grid=self.wishes.grid)
        return picture

    def _count(self, look: Look, found: Found, finder: Finder) -> None:
        if self._counter is None:
            self._counter = Counter(self.camera, finder.classes, aspect=look.size[0] / look.size[1])
        for crossing in self._counter.see(look.time_ns, found.boxes, found.scores, found.kinds):
            self.passed[crossing.line, crossing.direction] += 1


def detector_of(
    folder: Path, camera: CameraDeviceSpec, provider: Provider, say: Callable[[str], None]
) -> tuple[Finder | None, float]:
    """The camera's detector and the score from which it counts; when it cannot be had none, and why is said."""
    try:
        detector = models.load(folder, camera.detector, provider=provider)
    except ConfigError as error:
        for problem in error.problems:
            say(problem)
        say("without its detector nobody can look for people: all of the picture is pixelated")
        return None, 1.0
    return detector, camera.confidence or detector.card.thresholds.confidence


def rows_of(camera: CameraDeviceSpec) -> list[str]:
    """What the numbers and colours on the picture are called in the configuration."""
    rows = [
        f"line {n}: {line.name} (1: {line.directions[0]}, 2: {line.directions[1]})"
        for n, line in enumerate(camera.lines, 1)
    ]
    rows += [f"zone {n}: {zone.name}" for n, zone in enumerate(camera.zones, 1)]
    rows.append("ground: four points" if camera.ground is not None else "ground: none, so no speed")
    rows.append(f"masks: {len(camera.masks)}; detector: {camera.detector}; calibration: {camera.calibration}")
    return rows


def run(
    spec: CameraBusSpec,
    open_capture: OpenCapture,
    artist: Artist,
    *,
    stopping: Callable[[], bool],
    say: Callable[[str], None],
) -> int:
    """Show the camera until `stopping`, or for the seconds wished for; 0 when a picture was shown, else 1.

    Raises ConfigError for a file that is there already and a port that cannot be had, OSError for a file.
    """
    wishes = artist.wishes
    with ExitStack() as stack:
        if wishes.file is not None:
            file = PictureFile(wishes.file)
            stack.callback(file.close)
            show: Callable[[bytes], None] = file.write
            say(f"a picture every second in {wishes.file}; it is removed when this command ends")
        else:
            title = f"{artist.camera.name} ({spec.parsed_source.shown})"
            page = stack.enter_context(_page(wishes, title, rows_of(artist.camera)))
            show = page.show
            say(f"open {page.url}")
            say(f"from your laptop: ssh -L {page.server_port}:127.0.0.1:{page.server_port} GATEWAY, then open the same")
        say("PEOPLE CAN BE RECOGNISED" if wishes.reveal else "people and vehicles are pixelated; --reveal shows them")
        say(f"ends after {wishes.seconds:g} s or with Ctrl-C, and leaves nothing")
        capture = open_capture(spec, CANVAS)
        stack.callback(capture.close)
        return _look(capture, artist, show, stopping, say)


def _page(wishes: Wishes, title: str, rows: list[str]) -> Page:
    try:
        return Page(wishes.port, title, rows, reveal=wishes.reveal)
    except OSError as error:
        raise ConfigError([f"--port {wishes.port}: {error.strerror}; expected a free one, or 0 for any"]) from None


def _look(
    capture: Capture,
    artist: Artist,
    show: Callable[[bytes], None],
    stopping: Callable[[], bool],
    say: Callable[[str], None],
) -> int:
    ends_s = time.monotonic() + artist.wishes.seconds
    pace_s = FILE_S if artist.wishes.file is not None else 0.0
    shown_s, seen_s, told, shown = 0.0, time.monotonic(), "", False
    while not stopping() and (now_s := time.monotonic()) < ends_s:
        select.select([capture.fileno()], [], [], SLICE_S)
        look = capture.look()
        status = capture.status()
        words = status.error or status.state.value
        if look is not None:
            seen_s = now_s
            words = f"{look.size[0]} x {look.size[1]} pixels; {_heard(artist)}"
        if words != told and (look is not None or status.error):
            told = words
            say(f"{artist.camera.name}: {words}")
        if look is not None and now_s >= shown_s + pace_s:
            show(_jpeg(artist.draw(look, datetime.now().astimezone())))
            shown, shown_s = True, now_s
        elif look is None and now_s >= max(seen_s + QUIET_S, shown_s + FILE_S):
            show(_jpeg(card((640, 360), [artist.camera.name, *_lines(words)])))
            shown_s = now_s
    return 0 if shown else 1


def _heard(artist: Artist) -> str:
    return "the detector looks" if artist.finder is not None else "no detector"


def _lines(words: str, width: int = 60) -> list[str]:
    plain = words.encode("ascii", "replace").decode()
    return [plain[at : at + width] for at in range(0, min(len(plain), 5 * width), width)]


def _jpeg(picture: Picture) -> bytes:
    good, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert good, "OpenCV encodes every picture of ours"  # noqa: S101
    packed: Any = data
    return bytes(packed)
