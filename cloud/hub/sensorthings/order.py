"""$orderby: entities by one or more keys, whatever the keys' values are."""

from collections.abc import Sequence
from typing import Any, TypeVar

from cloud.hub.sensorthings.query import Order
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Entity

Ordered = TypeVar("Ordered", bound=Entity)


def sorted_by(view: View, entities: Sequence[Ordered], orders: Sequence[Order]) -> list[Ordered]:
    """By the first key, then the second; what is equal stays in its order. Null is the lowest, as OData has it."""
    found = list(entities)
    for order in reversed(orders):
        keyed = [(_key(order.key.value(view, entity)), entity) for entity in found]
        keyed.sort(key=lambda pair: pair[0], reverse=order.descending)
        found = [entity for _, entity in keyed]
    return found


def _key(value: Any) -> tuple[int, str, Any]:
    """Values of different types have an order too: that of their types' names."""
    if value is None or isinstance(value, dict | list | tuple):
        return 0, "", 0
    if isinstance(value, int | float):
        return (1, "number", value) if value == value else (0, "", 0)  # noqa: PLR0124 - NaN has no order
    return 1, type(value).__name__, value
