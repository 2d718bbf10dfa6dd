"""The demo's two cameras: what they are to the simulator, what they are to the gateway, and who was right in the end.

Over H.264 RTSP where GStreamer's server is installed, else over MJPEG: a fresh machine has no GStreamer. Without a
model there is nothing to count with, and the demo runs without cameras rather than with a pretence.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hardware_sim.street.gst import GstError, check
from hardware_sim.street_commands import MODEL, bus

INTERVAL_S = 2
"""Short, so that a stalled camera's counts are gaps within five seconds."""
SECOND = 1_000_000_000
LINE, ZONE = "road", "approach"


@dataclass(frozen=True)
class DemoCamera:
    """One camera of the demo. number: which street it looks at, see docs/simulator.md."""

    name: str
    mast: str
    port: int
    scene: str
    number: int


CAMERAS = (
    DemoCamera("camera-1", "mast-1", 18554, "free-flow", 1),
    DemoCamera("camera-2", "mast-2", 18555, "mixed", 2),
)
_PICTURE = {"width": 1280, "height": 720, "fps": 10}


def choose(models: Path) -> tuple[str, str]:
    """How the cameras send ("rtsp", "mjpeg", or "" for no cameras), and what to say of it."""
    model = models / f"{MODEL}.onnx"
    if not model.is_file():
        return "", f"cameras: left out, for there is no model to look with: {model}"
    try:
        check()
    except GstError as error:
        return "mjpeg", f"cameras: two, over MJPEG ({error})"
    return "rtsp", "cameras: two, H.264 over RTSP"


def add_to_scenario(text: str, kind: str) -> str:
    """A scenario with the cameras, too."""
    scenario = yaml.safe_load(text)
    for camera in CAMERAS:
        device = {"name": camera.name, "type": "camera", "scene": camera.scene, "number": camera.number, **_PICTURE}
        scenario["ports"].append({"name": camera.mast, "kind": kind, "port": camera.port, "devices": [device]})
    return yaml.safe_dump(scenario, sort_keys=False)


def add_to_gateway(text: str, kind: str, seed: int, models: Path) -> str:
    """A gateway's configuration with the cameras, too: as `weinao-sim snippet` prints them, one line and one zone."""
    scheme = "rtsp" if kind == "rtsp" else "http"
    made = []
    for camera in CAMERAS:
        options = {"scene": camera.scene, "size": (_PICTURE["width"], _PICTURE["height"]), "account": None}
        one = bus(camera.mast, camera.name, f"{scheme}://127.0.0.1:{camera.port}/street", options, seed + camera.number)
        device = one["devices"][0]
        device |= {"interval_s": INTERVAL_S, "owner": "Traffic Police", "contact": "cameras@traffic.example"}
        device["grade"] = "restricted"
        device["lines"] = [line for line in device["lines"] if line["name"] == LINE]
        device["zones"] = [zone for zone in device["zones"] if zone["name"] == ZONE]
        made.append(one)
    entries = yaml.safe_dump(made, sort_keys=False, default_flow_style=None, width=110)
    indented = "".join(f"  {line}\n" for line in entries.splitlines())
    return f"{text.rstrip()}\n\n{indented}\nvision: {{models: {json.dumps(str(models.absolute()))}}}\n"


@dataclass
class Tally:
    """One camera's count against the truth, of the intervals that have a count. Directions by name."""

    counted: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    intervals: int = 0
    gaps: int = 0
    seen: float = 0.0

    def line(self, name: str) -> str:
        """As a line of the closing summary."""
        ways = ", ".join(
            f"{way} {self.counted.get(way, 0)} of {self.happened.get(way, 0)}"
            for way in sorted(self.counted.keys() | self.happened.keys())
        )
        total, truth = sum(self.counted.values()), sum(self.happened.values())
        geh = math.sqrt(2 * (total - truth) ** 2 / (total + truth)) if total + truth else 0.0
        share = self.seen / max(1, self.intervals)
        return (
            f"  {name}: counted {total}, truth {truth} ({ways}; GEH {geh:.1f}); "
            f"saw {share:.1%} of {self.intervals * INTERVAL_S} s, {self.gaps} of {self.intervals} intervals are gaps"
        )


def summary(folder: Path, database: Path) -> list[str]:
    """The closing summary, from the database's file and the simulator's truth, with nothing of the product between."""
    stored = _stored(database)
    lines = [f"cameras: crossings of the line {LINE!r}, stored against the simulator's truth of the same seconds"]
    for camera in CAMERAS:
        truth = _crossings(folder / f"truth.{camera.name}.jsonl")
        lines.append(tally(stored.get(camera.name, {}), list(truth)).line(camera.name))
    return lines


Points = dict[str, dict[int, float]]
"""By stream: values by the time their interval ended."""


def tally(points: Points, truth: Sequence[tuple[int, str]]) -> Tally:
    """What a camera counted against who crossed (time, direction), in the intervals that have a count."""
    coverage = points.get("coverage", {})
    found = Tally(intervals=len(coverage), seen=sum(coverage.values()))
    streams = {name.split(".")[2]: values for name, values in points.items() if name.startswith(f"crossings.{LINE}.")}
    counted_at = set.intersection(*(set(values) for values in streams.values())) if streams else set[int]()
    found.gaps = found.intervals - len(counted_at)
    for way, values in streams.items():
        found.counted[way] = round(sum(values[end_ns] for end_ns in counted_at))
        found.happened.setdefault(way, 0)
    ends = sorted(counted_at)
    for time_ns, way in truth:
        if any(end_ns - INTERVAL_S * SECOND < time_ns <= end_ns for end_ns in ends):
            found.happened[way] = found.happened.get(way, 0) + 1
    return found


def _stored(database: Path) -> dict[str, Points]:
    import duckdb  # the cloud's own; the simulator alone needs none

    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute(
            "SELECT device, stream, time_ns, coalesce(value, CAST(count AS DOUBLE)) FROM points "
            "JOIN series ON points.series = series.id"
        ).fetchall()
    found: dict[str, Points] = {}
    for device, stream, time_ns, value in rows:
        if value is not None:
            found.setdefault(device, {}).setdefault(stream, {})[time_ns] = value
    return found


def _crossings(file: Path) -> Iterator[tuple[int, str]]:
    """When somebody crossed the line, and which way."""
    with file.open(encoding="utf-8") as lines:
        next(lines, None)  # the scene
        for line in lines:
            if '"crossings"' not in line or not line.endswith("\n"):
                continue
            frame: dict[str, Any] = json.loads(line)
            for one in frame["crossings"]:
                if one["line"] == LINE and one["of"] == "box":
                    yield frame["time_ns"] + round((one["t_s"] - frame["t_s"]) * SECOND), one["direction"]
