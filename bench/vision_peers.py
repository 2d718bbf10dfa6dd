"""What others count on the same boxes. Runs in an environment of its own, never imports the product:

    make bench-peers
    .venv-bench-vision/bin/python bench/vision_peers.py < looks.jsonl > passages.jsonl

A line in: {"lines": [{"name", "a", "b", "directions"}], "classes": [...], "fps": 5, "looks": [[t_s, boxes, scores,
kinds], ...]}, boxes in pixels xyxy. A line out for each peer: {"peer": name, "passages": [[line, direction, kind, t_s],
...]}. Both get the bottom's middle as the point that crosses, their documented settings for low frame rates, and the
class voted along the track, which neither does by itself.
"""

import importlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

norfair: Any = importlib.import_module("norfair")
sv: Any = importlib.import_module("supervision")
trackers: Any = importlib.import_module("trackers")

Passage = tuple[str, str, int, float]


def byte_track(run: dict[str, Any]) -> list[Passage]:
    """The `trackers` package's ByteTrack and supervision's LineZone."""
    tracker = trackers.ByteTrackTracker(frame_rate=run["fps"], lost_track_buffer=45, track_activation_threshold=0.5)
    zones = [
        sv.LineZone(sv.Point(*line["a"]), sv.Point(*line["b"]), [sv.Position.BOTTOM_CENTER], 1) for line in run["lines"]
    ]
    votes: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    found = []
    for t_s, boxes, scores, kinds in run["looks"]:
        seen = sv.Detections(
            xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            confidence=np.array(scores, dtype=np.float32),
            class_id=np.array(kinds, dtype=int),
        )
        tracked = tracker.update(seen)
        if tracked.tracker_id is None or not len(tracked):
            continue
        tracked = tracked[tracked.tracker_id >= 0]
        for number, kind, score in zip(tracked.tracker_id, tracked.class_id, tracked.confidence, strict=True):
            votes[int(number)][int(kind)] += float(score)
        for line, zone in zip(run["lines"], zones, strict=True):
            # LineZone's "in" comes from the right hand of who looks from start to end; ours from the left.
            inward, outward = zone.trigger(tracked)
            for crossed, direction in ((inward, line["directions"][1]), (outward, line["directions"][0])):
                numbers = tracked.tracker_id[crossed].tolist()
                found += [(line["name"], direction, number, t_s) for number in numbers]
    return [(line, way, max(votes[n], key=lambda kind: votes[n][kind]), t) for line, way, n, t in found]


def norfair_lines(run: dict[str, Any]) -> list[Passage]:
    """norfair's tracker with its own filter; a change of side between two of its estimates is a passage."""
    tracker = norfair.Tracker("iou", distance_threshold=0.8, hit_counter_max=8, initialization_delay=2)
    votes: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    last: dict[int, Any] = {}
    found = []
    for t_s, boxes, scores, kinds in run["looks"]:
        seen = [
            norfair.Detection(np.array(box).reshape(2, 2), np.full(2, score), data=(kind, score))
            for box, score, kind in zip(boxes, scores, kinds, strict=True)
        ]
        for thing in tracker.update(detections=seen):
            kind, score = thing.last_detection.data
            votes[thing.id][kind] += score
            (x0, _), (x1, y1) = thing.estimate
            foot = np.array([(x0 + x1) / 2, y1])
            found += [(*crossed, thing.id, t_s) for crossed in _crossed(run, last.get(thing.id), foot)]
            last[thing.id] = foot
    return [(line, way, max(votes[n], key=lambda kind: votes[n][kind]), t) for line, way, n, t in found]


def _crossed(run: dict[str, Any], before: Any, now: Any) -> Iterator[tuple[str, str]]:
    if before is None:
        return
    for line in run["lines"]:
        a, along = np.array(line["a"]), np.array(line["b"]) - np.array(line["a"])
        right = np.array([-along[1], along[0]])
        old, new = float((before - a) @ right), float((now - a) @ right)
        if old * new >= 0:
            continue
        met = before + (now - before) * old / (old - new)
        if 0 <= (met - a) @ along <= along @ along:
            yield line["name"], line["directions"][0 if old < 0 else 1]


def main() -> None:
    """Count every run of standard input."""
    for text in sys.stdin:
        run = json.loads(text)
        for name, counting in (("bytetrack", byte_track), ("norfair", norfair_lines)):
            print(json.dumps({"peer": name, "passages": counting(run)}), flush=True)


if __name__ == "__main__":
    main()
