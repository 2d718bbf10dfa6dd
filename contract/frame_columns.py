"""Values of every kind as columns of integers, and back, bit for bit.

All arrays here are columns: (S, T), one row of the array a stream.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.frame_bits import Unsigned
from contract.readings import Bytes, Floats, Ints

Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

MAX_DECIMALS = 9
RAW = 16
"""The scale of a column of raw doubles is RAW plus how many low bits, zero in all of them, are cut off."""
MAX_SCALE = RAW + 63
POWERS: Floats = 10.0 ** np.arange(MAX_DECIMALS + 1, dtype=np.float64)
_NOWHERE = np.empty(0, dtype=np.int64)
_SAMPLE_ROWS = 8
_SINGLE_SHIFT = 52 - 23
_EXCEPTION_SHARE = 4
"""At most one value in so many may be stored apart (NaN, -0.0, a glitch) before the column is stored as raw doubles."""


def carry_forward(columns: NDArray[Number], missing: Mask) -> NDArray[Number]:
    """The columns with every missing cell like the one before it (the first ones like the first that is there).

    A missing value carries no meaning; this one costs the least.
    """
    rows = np.where(missing, 0, np.arange(columns.shape[1]))
    np.maximum.accumulate(rows, axis=1, out=rows)
    np.maximum(rows, np.argmin(missing, axis=1)[:, None], out=rows)
    filled: NDArray[Number] = np.take_along_axis(columns, rows, axis=1)
    filled[missing.all(axis=1)] = columns.dtype.type(0)
    return filled


def scale_floats(columns: Floats, hint: NDArray[np.int8] | None) -> tuple[Ints, Bytes, Ints]:
    """Doubles as (integers (S, T), scales (S,), flat indices of the cells that the integers do not give back).

    A scale up to 9 is a number of decimals: value = integer / 10**scale, correctly rounded. RAW and above: raw doubles.
    """
    known = hint is not None and bool(hint.view(np.uint8).max() <= MAX_DECIMALS)
    scales = hint.astype(np.int64) if known and hint is not None else _guess(columns)
    integers, wrong = _try(columns, _power(scales))
    if not np.count_nonzero(wrong):
        return integers, scales.astype(np.uint8), _NOWHERE
    failed = np.flatnonzero(wrong.any(axis=1))
    floats, limit = columns[failed], columns.shape[1] // _EXCEPTION_SHARE
    settled = _settle(floats, _guess(floats) if known else scales[failed])
    again, astray = _try(floats, _power(settled))
    raw = np.flatnonzero(np.count_nonzero(astray, axis=1) > limit)
    again[raw], settled[raw] = _raw(floats[raw])
    astray[raw] = False
    integers[failed] = carry_forward(again, astray)
    scales[failed] = settled
    wrong[failed] = astray
    return integers, scales.astype(np.uint8), np.flatnonzero(wrong)


def unscale_floats(integers: Ints, scales: Bytes) -> Floats:
    """The doubles of `integers` (S, T)."""
    if len(scales) and scales.max() <= MAX_DECIMALS:
        power = POWERS[scales[0]] if (scales == scales[0]).all() else POWERS[scales][:, None]
        plain: Floats = integers / power
        return plain
    decimal = scales <= MAX_DECIMALS
    floats = np.empty(integers.shape, dtype=np.float64)
    floats[decimal] = integers[decimal] / POWERS[scales[decimal]][:, None]
    shifts = (scales[~decimal] - RAW).astype(np.uint64)[:, None]
    floats[~decimal] = (integers[~decimal].view(np.uint64) << shifts).view(np.float64)
    return floats


def _try(columns: Floats, power: Floats | np.float64) -> tuple[Ints, Mask]:
    """The integers of `columns` times `power`, and which of them do not give back the same 64 bits."""
    with np.errstate(invalid="ignore", over="ignore"):
        integers = np.rint(columns * power).astype(np.int64)
    return integers, (integers / power).view(np.int64) != columns.view(np.int64)


def _power(scales: Ints) -> Floats:
    """What the columns of these scales are multiplied by, ready to be spread over their rows."""
    return POWERS[scales][:, None]


def _guess(columns: Floats) -> Ints:
    """For each column the fewest decimals that a sample of its rows needs; 0 where none will do for most of them."""
    length = columns.shape[1]
    sample = np.ascontiguousarray(columns[:, :: -(-length // _SAMPLE_ROWS)])
    fewest = _fewest(sample)
    hopeless = np.count_nonzero(fewest < 0, axis=1) * 2 > sample.shape[1]
    guessed: Ints = np.where(hopeless, 0, np.maximum(fewest.max(axis=1), 0))
    return guessed


def _settle(columns: Floats, scales: Ints) -> Ints:
    """The scales raised to what every cell needs that has a decimal form at all."""
    wrong = _try(columns, _power(scales))[1]
    needed = np.zeros(columns.shape, dtype=np.int64)
    needed[wrong] = _fewest(columns[wrong])
    settled: Ints = np.maximum(scales, needed.max(axis=1))
    return settled


def _fewest(floats: Floats) -> Ints:
    """The fewest decimals that give back each double, -1 where no number of them does."""
    fewest = np.zeros(floats.shape, dtype=np.int64)
    unfit = np.ones(floats.shape, dtype=np.bool_)
    for power in POWERS:
        unfit &= _try(floats, power)[1]
        if not np.count_nonzero(unfit):
            return fewest
        fewest += unfit
    fewest[unfit] = -1
    return fewest


def _raw(columns: Floats) -> tuple[Ints, Ints]:
    """The bits of doubles as integers, without the low bits that are zero throughout a column, and the scales.

    Zeros that only a few rows share are chance: there, columns are shifted alike, by what a 32-bit float leaves.
    """
    bits: Unsigned = columns.view(np.uint64)
    every = np.bitwise_or.reduce(bits, axis=1)
    lowest = every & (~every + np.uint64(1))
    shifts = np.maximum(np.frexp(lowest.astype(np.float64))[1] - 1, 0)
    if columns.shape[1] < _SAMPLE_ROWS:
        shifts = np.where(shifts >= _SINGLE_SHIFT, _SINGLE_SHIFT, 0)
    return (bits >> shifts.astype(np.uint64)[:, None]).view(np.int64), (RAW + shifts).astype(np.int64)
