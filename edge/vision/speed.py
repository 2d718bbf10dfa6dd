"""Why: kilometres an hour come from metres on the street and the times of capture, or they do not come at all.

The speed of a thing that crossed a line is that of its path around the crossing: the median slope of its ground points
over time, so that a few bad boxes do not matter. Without four known points there is no value; without enough points of
its path there is none for this thing.
"""

from collections.abc import Sequence

import numpy as np

from edge.vision.geometry import Street, median_slope
from edge.vision.lines import Crossing, around

REACH_NS = 1_500_000_000
"""The path is fitted over so long before and after the crossing: at 5 fps, 15 points."""
POINTS = 4
"""Fewer make no median."""
SPAN_S = 0.6
"""Over a shorter time the boxes' trembling is more than the way."""
FASTEST_KMH = 250.0
"""What is faster was no car on a street but two things taken for one."""


def due_ns(crossing: Crossing) -> int:
    """When the path after a crossing is complete."""
    return crossing.time_ns + REACH_NS


def speed_kmh(crossing: Crossing, street: Street) -> float | None:
    """How fast a thing crossed; None when its path says too little."""
    points = around(crossing.track.path, crossing.time_ns, REACH_NS)
    if len(points) < POINTS:
        return None
    metres = street.metres(np.array([(point.x, point.y) for point in points]))
    times = np.array([(point.time_ns - crossing.time_ns) * 1e-9 for point in points])
    known = np.isfinite(metres).all(axis=1)
    metres, times = metres[known], times[known]
    if len(times) < POINTS or times[-1] - times[0] < SPAN_S:
        return None
    kmh = 3.6 * float(np.hypot(median_slope(times, metres[:, 0]), median_slope(times, metres[:, 1])))
    return kmh if kmh <= FASTEST_KMH else None


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None
