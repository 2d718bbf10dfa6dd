"""Why: whether a camera still looks where it was told to is asked of what stands still in its picture: the edges.

A view is remembered as profiles: how much vertical edge there is in each column of three bands of the picture, and how
much horizontal edge in each row of four. A camera that turns shifts them, and by how much is one correlation; what
drives by is averaged away over minutes, light changes only their scale. That is all that is ever kept of a view: 840
numbers from 0 to 255, made of at least a minute of pictures. Two sums of a picture along its axes do not determine the
picture, and what moved is not in them, so no person, face or plate can be read from a memory on disk.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.base_camera import THUMBNAIL, Grey

Profile = NDArray[np.float32]

WIDTH, HEIGHT = THUMBNAIL[0] // 2, THUMBNAIL[1] // 2
BANDS_DOWN, BANDS_ACROSS = 3, 4
COLUMNS = BANDS_DOWN * WIDTH
PROFILE_LENGTH = COLUMNS + BANDS_ACROSS * HEIGHT
EDGE_MOST = 80.0
"""A headlight is no stronger an edge than a kerb: the response of a step of 20 grey levels."""
SEARCH = 0.28
"""Share of the picture by which a shift is looked for: 18 degrees of a view of 65."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a thumbnail says: mean and deviation of its grey levels, the share that is burnt out, its sharpness
    (variance of the Laplacian), and its edge profiles."""

    mean: float
    deviation: float
    burnt: float
    sharpness: float
    profile: Profile


def features(thumbnail: Grey) -> Features:
    """Look at a thumbnail; 0.15 ms."""
    mean, deviation = cv2.meanStdDev(thumbnail)
    _, roughness = cv2.meanStdDev(cv2.Laplacian(thumbnail, cv2.CV_16S))
    burnt = int(np.count_nonzero(thumbnail > 249)) / thumbnail.size
    return Features(float(mean[0, 0]), float(deviation[0, 0]), burnt, float(roughness[0, 0]) ** 2, _profile(thumbnail))


def _profile(thumbnail: Grey) -> Profile:
    half = cv2.resize(thumbnail, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    upright = np.minimum(np.abs(cv2.Sobel(half, cv2.CV_32F, 1, 0)), EDGE_MOST)
    level = np.minimum(np.abs(cv2.Sobel(half, cv2.CV_32F, 0, 1)), EDGE_MOST)
    columns = upright.reshape(BANDS_DOWN, HEIGHT // BANDS_DOWN, WIDTH).mean(axis=1)
    rows = level.reshape(HEIGHT, BANDS_ACROSS, WIDTH // BANDS_ACROSS).mean(axis=2).T
    found: Profile = np.concatenate([columns.ravel(), rows.ravel()])
    return found


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two profiles are, -1 to 1. here: as they are; best: after the best shift, across and down,
    in points of the thumbnail. worst_band: the least alike of the bands as they are."""

    here: float
    best: float
    across: int
    down: int


def likeness(profile: Profile, other: Profile) -> Likeness:
    """Compare two profiles, shifts of up to SEARCH included; 0.1 ms."""
    columns = _correlation(profile[:COLUMNS], other[:COLUMNS], BANDS_DOWN)
    rows = _correlation(profile[COLUMNS:], other[COLUMNS:], BANDS_ACROSS)
    best = int(columns.argmax()), int(rows.argmax())
    middle = len(columns) // 2, len(rows) // 2
    return Likeness(
        float(columns[middle[0]] + rows[middle[1]]) / 2,
        float(columns[best[0]] + rows[best[1]]) / 2,
        2 * (best[0] - middle[0]),
        2 * (best[1] - middle[1]),
    )


def _correlation(first: Profile, second: Profile, bands: int) -> NDArray[np.float64]:
    """Mean over the bands of the correlation at each shift from -SEARCH to SEARCH."""
    a, b = _levelled(first, bands), _levelled(second, bands)
    length = a.shape[1]
    spectrum = np.fft.rfft(a, 2 * length) * np.conj(np.fft.rfft(b, 2 * length))
    shifts = np.fft.irfft(spectrum, 2 * length)
    norms = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    reach = round(SEARCH * length)
    found = np.concatenate([shifts[:, -reach:], shifts[:, : reach + 1]], axis=1) / np.maximum(norms, 1e-6)[:, None]
    # A shift leaves less in common: what is compared is what both can show.
    common = 1 - np.abs(np.arange(-reach, reach + 1)) / length
    mean: NDArray[np.float64] = (found / np.sqrt(common)).mean(axis=0)
    return mean


def _levelled(profile: Profile, bands: int) -> NDArray[np.float64]:
    shaped = profile.reshape(bands, -1).astype(np.float64)
    levelled: NDArray[np.float64] = shaped - shaped.mean(axis=1, keepdims=True)
    return levelled


def strength(profile: Profile) -> float:
    """How much edge there is."""
    return float(profile.mean())
