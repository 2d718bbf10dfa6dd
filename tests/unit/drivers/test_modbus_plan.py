import time
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus_plan import Limits, Request, Wanted, plan
from drivers.modbus_terms import Span, Table


def want(*spans: tuple[int, int]) -> list[Wanted]:
    return [Wanted(Span(Table.HOLDING, first, last), position) for position, (first, last) in enumerate(spans)]


def partitions(items: list[Wanted]) -> Iterator[list[list[Wanted]]]:
    """Every way to put items into groups, neighbours or not."""
    if not items:
        yield []
        return
    head, *rest = items
    for smaller in partitions(rest):
        yield [[head], *smaller]
        for index, group in enumerate(smaller):
            yield [*smaller[:index], [head, *group], *smaller[index + 1 :]]


def allowed(first: int, last: int, wanted: list[Wanted], limits: Limits) -> bool:
    """The rules, register by register, as the documentation states them."""
    held = set(range(first, last + 1))
    useful = {address for one in wanted for address in range(one.span.first, one.span.last + 1)}
    gap = longest = 0
    for address in range(first, last + 1):
        gap = 0 if address in useful else gap + 1
        longest = max(longest, gap)
    return (
        len(held) <= limits.block
        and longest <= limits.gap
        and not any(held & set(range(low, high + 1)) for low, high in limits.forbidden)
        and not any({cut - 1, cut} <= held for cut in limits.cuts)
    )


def cheapest(wanted: list[Wanted], limits: Limits) -> tuple[int, int]:
    costs = []
    for groups in partitions(wanted):
        hulls = [(min(w.span.first for w in group), max(w.span.last for w in group), group) for group in groups]
        if all(len(group) == 1 or allowed(first, last, group, limits) for first, last, group in hulls):
            costs.append((len(hulls), sum(last - first + 1 for first, last, _ in hulls)))
    return min(costs)


spans = st.tuples(st.integers(0, 24), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(spans, min_size=1, max_size=6),
    st.integers(4, 20),
    st.integers(0, 6),
    st.lists(spans, max_size=2),
    st.sets(st.integers(0, 27), max_size=2),
)
def test_no_grouping_is_cheaper_and_no_rule_is_broken(
    wanted_spans: list[tuple[int, int]], block: int, gap: int, forbidden: list[tuple[int, int]], cuts: set[int]
) -> None:
    free = [
        (low, high) for low, high in forbidden if not any(first <= high and last >= low for first, last in wanted_spans)
    ]
    outside = {cut for cut in cuts if not any(first < cut <= last for first, last in wanted_spans)}
    limits = Limits(block, gap, tuple(free), frozenset(outside))
    wanted = want(*wanted_spans)
    requests = plan(wanted, limits)
    assert sorted(one for request in requests for one in request.wanted) == sorted(wanted)
    for request in requests:
        assert all(
            request.span.first <= one.span.first and one.span.last <= request.span.last for one in request.wanted
        )
        if len(request.wanted) > 1:
            assert allowed(request.span.first, request.span.last, list(request.wanted), limits)
    assert (len(requests), sum(request.count for request in requests)) == cheapest(wanted, limits)


def spans_of(requests: list[Request]) -> list[tuple[int, int]]:
    return [(request.span.first, request.span.last) for request in requests]


def test_a_gap_is_read_up_to_the_limit_and_not_beyond() -> None:
    assert spans_of(plan(want((0, 1), (10, 11)), Limits(120, 8))) == [(0, 11)]
    assert spans_of(plan(want((0, 1), (11, 12)), Limits(120, 8))) == [(0, 1), (11, 12)]


def test_a_float_is_not_split_at_the_block_limit() -> None:
    requests = plan(want(*[(at, at + 1) for at in range(0, 20, 2)]), Limits(9, 0))
    assert sorted(request.count for request in requests) == [4, 8, 8]
    assert all(request.span.first % 2 == 0 for request in requests)


def test_of_equally_few_requests_the_shorter_are_taken() -> None:
    # Greedy from the left would read 0-9 and 14-15 with the gap of 8; the gap is cheaper on the right.
    assert spans_of(plan(want((0, 0), (9, 9), (11, 11)), Limits(10, 8))) == [(0, 0), (9, 11)]


def test_two_thousand_values_plan_in_no_time() -> None:
    begun = time.process_time()
    assert len(plan(want(*[(at, at) for at in range(2000)]), Limits(125, 8))) == 16
    assert time.process_time() - begun < 2
