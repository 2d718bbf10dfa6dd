"""Filters on readings as masks over columns: a million readings are looked at without one Python object each.

What has no mask (functions, arithmetic on results) is evaluated reading by reading, by expression.py, to the same
outcome; a test holds the two together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odata_query import ast

from cloud.hub.sensorthings.functions import COMPARISONS, as_instant
from cloud.hub.sensorthings.model import QUALITIES, reason_text
from cloud.hub.sensorthings.syntax import Node, chain, steps_of
from cloud.hub.sensorthings.values import Instant
from cloud.stores.base import Columns
from contract.readings import quality_of

Bools = NDArray[np.bool_]
Mask = Callable[[Columns], Bools]
Constant = Callable[[Node], tuple[bool, Any]]

TIMES = (["phenomenonTime"], ["resultTime"])
FLIPPED = {"Eq": "Eq", "NotEq": "NotEq", "Lt": "Gt", "LtE": "GtE", "Gt": "Lt", "GtE": "LtE"}
_NUMPY: dict[str, Callable[[Any, Any], Any]] = {
    "Eq": np.equal,
    "NotEq": np.not_equal,
    "Lt": np.less,
    "LtE": np.less_equal,
    "Gt": np.greater,
    "GtE": np.greater_equal,
}
_REACH = 2**62  # beyond what times and counts hold, so that a comparison with it stays a comparison


def comparison(node: Node, constant: Constant) -> tuple[list[str], str, Any] | None:
    """`path operator constant` as its parts, whichever side the path is on; None for every other node."""
    if not isinstance(node, ast.Compare) or isinstance(node.comparator, ast.In):
        return None
    operator = type(node.comparator).__name__
    for path, other, name in ((node.left, node.right, operator), (node.right, node.left, FLIPPED[operator])):
        steps = steps_of(path)
        if steps is not None:
            fixed, value = constant(other)
            return (steps, name, value) if fixed else None
    return None


def mask_of(node: Node, constant: Constant) -> Mask | None:
    """The mask of a filter, or None where it has none."""
    if isinstance(node, ast.BoolOp):
        return _joined(node, constant)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = mask_of(node.operand, constant)
        return None if inner is None else lambda columns: np.logical_not(inner(columns))
    parts = comparison(node, constant)
    return None if parts is None else _compared(*parts)


def _joined(node: ast.BoolOp, constant: Constant) -> Mask | None:
    masks = [mask_of(one, constant) for one in chain(node, type(node.op))]
    known = [one for one in masks if one is not None]
    if len(known) < len(masks):
        return None
    join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
    return lambda columns: join.reduce([one(columns) for one in known])


def _compared(steps: list[str], operator: str, value: Any) -> Mask | None:
    compare = COMPARISONS[operator]
    if steps in TIMES:
        return _time_mask(operator, as_instant(value))
    if steps == ["result"]:
        return lambda columns: _result_mask(columns, operator, value)
    if steps == ["resultQuality", "quality"]:
        return _status_mask([compare(QUALITIES[quality_of(code)], value) for code in range(256)])
    if steps == ["resultQuality", "reason"]:
        return _status_mask([compare(reason_text(code), value) for code in range(256)])
    return None


def _time_mask(operator: str, value: Any) -> Mask:
    if isinstance(value, Instant) and abs(value.ns) < 2**63:
        limit = np.int64(value.ns)
        return lambda columns: np.asarray(_NUMPY[operator](columns.times, limit), dtype=np.bool_)
    return lambda columns: np.full(columns.times.size, COMPARISONS[operator](Instant(0), value))


def _status_mask(table: list[bool]) -> Mask:
    lookup = np.array(table, dtype=np.bool_)
    return lambda columns: np.asarray(lookup[columns.status], dtype=np.bool_)


def _result_mask(columns: Columns, operator: str, value: Any) -> Bools:
    values, valued = columns.values, columns.valued
    missing = COMPARISONS[operator](None, value)
    if values.dtype == np.object_ or value is None:
        listed = values.tolist()
        return np.array(
            [COMPARISONS[operator](one if there else None, value) for one, there in zip(listed, valued, strict=True)],
            dtype=np.bool_,
        )
    is_truth = values.dtype == np.bool_
    fits = isinstance(value, bool) if is_truth else isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        return np.where(valued, COMPARISONS[operator](not value if is_truth else 0, value), missing)
    if isinstance(value, int) and abs(value) > _REACH:
        listed = values.tolist()
        found = np.array([COMPARISONS[operator](one, value) for one in listed], dtype=np.bool_)
    else:
        found = np.asarray(_NUMPY[operator](values, value), dtype=np.bool_)
    return np.where(valued, found, missing)
