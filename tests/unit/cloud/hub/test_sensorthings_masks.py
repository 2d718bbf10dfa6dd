from typing import Any

import numpy as np
from hub_kit_sensorthings import NOW, SECOND, Bench, entry
from hypothesis import given
from hypothesis import strategies as st

from cloud.hub.sensorthings.expression import Compiler, compile_text
from cloud.hub.sensorthings.masks import mask_of
from cloud.hub.sensorthings.spec import TYPES
from cloud.hub.sensorthings.syntax import Node
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Observed, World
from cloud.stores.base import Columns
from contract.readings import Kind, Quality, Reason, status

DTYPES: dict[Kind, Any] = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: np.object_}
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.FLOAT: st.sampled_from([0.0, -1.5, 20.0, 1e300, 0.1, 3.0]),
    Kind.INT: st.sampled_from([0, 3, -7, 2**63 - 1, -(2**63), 2**53 + 1]),
    Kind.BOOL: st.booleans(),
    Kind.TEXT: st.sampled_from(["", "on", "off", "3", "2026-11-23T08:00:00Z"]),
}
STATUSES = [status(quality, reason) for quality in list(Quality)[:3] for reason in (Reason.NONE, Reason.STUCK)]
OPERATORS = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
LITERALS = st.sampled_from(
    [
        *("0", "3", "-7", "3.0", "0.1", "1e300", "9223372036854775807", "99999999999999999999", "true", "false"),
        *("null", "'on'", "'3'", "''", "2026-11-23T08:00:00Z", "now()", "1 add 2", "'good'", "'stuck'"),
    ]
)
PATHS = st.sampled_from(["result", "resultQuality/quality", "resultQuality/reason", "phenomenonTime"])
COMPARED = st.builds(
    lambda path, operator, literal, flip: f"{literal} {operator} {path}" if flip else f"{path} {operator} {literal}",
    PATHS,
    OPERATORS,
    LITERALS,
    st.booleans(),
)
FILTERS = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.builds(lambda one, two, word: f"({one}) {word} ({two})", inner, inner, st.sampled_from(["and", "or"])),
        st.builds(lambda one: f"not ({one})", inner),
    ),
    max_leaves=6,
)


@st.composite
def columns(draw: st.DrawFn) -> tuple[Kind, Columns]:
    """Readings of one kind, some with quality alone."""
    kind = draw(st.sampled_from(list(Kind)))
    rows = draw(st.lists(st.tuples(VALUES[kind], st.booleans(), st.sampled_from(STATUSES)), min_size=1, max_size=12))
    return kind, Columns(
        np.array([NOW + (at - 5) * SECOND for at in range(len(rows))], dtype=np.int64),
        np.array([row[0] for row in rows], dtype=DTYPES[kind]),
        np.array([row[1] for row in rows], dtype=np.bool_),
        np.array([row[2] for row in rows], dtype=np.uint8),
    )


@given(columns(), FILTERS)
def test_a_mask_says_the_same_as_looking_at_each_reading(held: tuple[Kind, Columns], text: str) -> None:
    kind, block = held
    one = entry(1, kind=kind)
    expression = compile_text(text, TYPES["Observation"], "$filter", NOW)
    compiler = Compiler(TYPES["Observation"], "$filter", NOW)

    def constant(node: Node) -> tuple[bool, Any]:
        term = compiler.term(node)
        return term.constant, term.value

    mask = mask_of(expression.tree, constant)
    assert mask is not None
    bench = Bench([one], {})
    view = View(World([one]), bench.tokens.readers["water"], bench.newest, bench.store, NOW)  # type: ignore[arg-type]
    rows = zip(block.times.tolist(), block.values.tolist(), block.valued.tolist(), block.status.tolist(), strict=True)
    singly = [
        expression.holds(view, Observed(one, time, value if there else None, code)) for time, value, there, code in rows
    ]
    assert mask(block).tolist() == singly
