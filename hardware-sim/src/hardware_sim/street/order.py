"""Who hides whom: the order in which things that stand on the ground are painted.

Sorting by distance is wrong for long things (a bus and the car beside its tail). Two footprints that do not overlap are
parted by an edge of one of them, and the one on the camera's side of that edge cannot be hidden by the other.
"""

import heapq
from collections.abc import Sequence

Corners = Sequence[tuple[float, float]]
EDGE_M = 0.02


def paint_order(
    footprints: Sequence[Corners],
    distances: Sequence[float],
    pairs: Sequence[tuple[int, int]],
    eye: tuple[float, float],
) -> list[int]:
    """Indices from the one painted first. pairs: those whose pictures overlap; the others may come in any order."""
    behind: list[set[int]] = [set() for _ in footprints]  # what must be painted before each
    for a, b in pairs:
        front = _front(footprints[a], footprints[b], eye)
        if front == 0:
            front = 1 if distances[a] < distances[b] else -1
        if front > 0:
            behind[a].add(b)
        else:
            behind[b].add(a)
    waiting = [(-distances[i], i) for i in range(len(footprints)) if not behind[i]]
    heapq.heapify(waiting)
    over: list[list[int]] = [[] for _ in footprints]
    for index, others in enumerate(behind):
        for other in others:
            over[other].append(index)
    order: list[int] = []
    while waiting:
        _, index = heapq.heappop(waiting)
        order.append(index)
        for above in over[index]:
            behind[above].discard(index)
            if not behind[above]:
                heapq.heappush(waiting, (-distances[above], above))
    if len(order) < len(footprints):  # a ring of three, each behind the next: no order is right, distance is the best
        left = set(range(len(footprints))) - set(order)
        order += sorted(left, key=lambda i: -distances[i])
    return order


def _front(a: Corners, b: Corners, eye: tuple[float, float]) -> int:
    """1: a is before b; -1: b is before a; 0: their edges do not say."""
    for one, other, sign in ((a, b, 1), (b, a, -1)):
        if len(one) < 2:
            continue
        for index, (x0, y0) in enumerate(one):
            x1, y1 = one[index - 1]
            normal = (y1 - y0, x0 - x1)
            inside = [normal[0] * (x - x0) + normal[1] * (y - y0) for x, y in one]
            flip = -1 if min(inside) < -EDGE_M else 1  # so that `one` lies where it is positive
            if all(flip * (normal[0] * (x - x0) + normal[1] * (y - y0)) <= EDGE_M for x, y in other):
                seen = flip * (normal[0] * (eye[0] - x0) + normal[1] * (eye[1] - y0))
                if abs(seen) > EDGE_M:
                    return sign if seen > 0 else -sign
    return 0
