"""Whether the shapes of a scene can work: pure geometry, so that a wrong corner is found before the camera is mounted.

Points are fractions of the picture, or metres on the street. Every check returns what is wrong, or nothing.
"""

from collections.abc import Sequence
from itertools import combinations

XY = tuple[float, float]
MIN_LINE = 0.02  # of the picture: shorter ones count the jitter of boxes
MIN_AREA = 0.0005  # of the picture: about 30 x 15 pixels in 1280 x 720
# How far from a straight line the third of any three ground points must stand, as a share of the longest side: with
# less, a pixel's error in one point throws speeds by tens of percent.
MIN_LEAN = 0.02


def line_problem(a: XY, b: XY) -> str:
    """What is wrong with a counting line."""
    if _squared(a, b) < MIN_LINE * MIN_LINE:
        return f"a and b are less than {MIN_LINE:g} of the picture apart"
    return ""


def polygon_problem(points: Sequence[XY]) -> str:
    """What is wrong with a polygon whose last point joins its first."""
    sides = list(zip(points, [*points[1:], points[0]], strict=True))
    for number, (a, b) in enumerate(sides):
        if a == b:
            return (
                f"point {number + 1} stands twice in a row"
                if number + 1 < len(sides)
                else "the last point is the first"
            )
    for (i, one), (j, other) in combinations(enumerate(sides), 2):
        neighbours = j - i == 1 or (i == 0 and j == len(sides) - 1)
        if not neighbours and _cross(*one, *other):
            return f"its sides {i + 1} and {j + 1} cross: list the corners in the order in which one walks around it"
    area = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in sides)) / 2
    if area < MIN_AREA:
        return f"it covers {area:.2g} of the picture, expected at least {MIN_AREA:g}"
    return ""


def ground_problem(picture: Sequence[XY], metres: Sequence[XY]) -> str:
    """What is wrong with four points of the picture and where they are on the street."""
    for name, points in (("picture", picture), ("metres", metres)):
        for one, two, three in combinations(range(4), 3):
            a, b, c = points[one], points[two], points[three]
            longest = max(_squared(a, b), _squared(b, c), _squared(a, c))
            if abs(_turn(a, b, c)) <= MIN_LEAN * longest:
                return (
                    f"{name}: points {one + 1}, {two + 1} and {three + 1} stand on one line; "
                    "expected four corners of which no three do"
                )
    # A camera in front of a plane keeps or mirrors every turn between points: all four or none.
    flips = {
        (_turn(picture[i], picture[j], picture[k]) > 0) == (_turn(metres[i], metres[j], metres[k]) > 0)
        for i, j, k in combinations(range(4), 3)
    }
    if len(flips) > 1:
        return "metres: no camera sees these points so; expected them in the same order as in 'picture'"
    return ""


def _squared(a: XY, b: XY) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def _turn(a: XY, b: XY, c: XY) -> float:
    """Twice the signed area of the triangle."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _cross(a: XY, b: XY, c: XY, d: XY) -> bool:
    """Whether two sides touch or cross."""
    one, two, three, four = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if ((one > 0) != (two > 0)) and ((three > 0) != (four > 0)) and 0.0 not in {one, two, three, four}:
        return True
    return any(
        turn == 0 and min(p[0], q[0]) <= r[0] <= max(p[0], q[0]) and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])
        for turn, p, q, r in ((one, a, b, c), (two, a, b, d), (three, c, d, a), (four, c, d, b))
    )
