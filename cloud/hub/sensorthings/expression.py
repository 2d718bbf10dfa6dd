"""An expression of $filter or $orderby, checked against an entity type and made ready to be evaluated.

A path may go through relations: to one entity, or through a collection, where a comparison holds when it holds for one
of its members. It never goes through Observations: nobody learns readings by asking what they are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from typing import Any

from odata_query import ast

from cloud.hub.problems import BadQuery
from cloud.hub.sensorthings import functions
from cloud.hub.sensorthings.functions import COMPARISONS, FUNCTIONS, Many
from cloud.hub.sensorthings.geometry import GeometryError, parse_wkt
from cloud.hub.sensorthings.model import ABSENT, property_of, related
from cloud.hub.sensorthings.spec import ID_NAMES, TYPES, EntityType, Navigation
from cloud.hub.sensorthings.syntax import Node, chain, parse, steps_of
from cloud.hub.sensorthings.values import Instant, Interval, parse_instant, parse_span
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Entity
from cloud.hub.times import EARLIEST_NS, LATEST_NS

Evaluate = Callable[[View, Entity], Any]


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an expression. constant: it is the same for every entity. many: it may give several values."""

    evaluate: Evaluate
    weight: int = 1
    constant: bool = False
    many: bool = False
    value: Any = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A whole expression over one entity type. weight: roughly how many steps one evaluation takes."""

    tree: Node
    entity_type: EntityType
    option: str
    term: Term
    now_ns: int

    def value(self, view: View, entity: Entity) -> Any:
        """The value for one entity."""
        view.spend(self.term.weight)
        try:
            return self.term.evaluate(view, entity)
        except GeometryError as error:
            raise BadQuery(self.option, str(error)) from None

    def holds(self, view: View, entity: Entity) -> bool:
        """Whether the entity passes this as a filter."""
        return truth(self.value(view, entity))


def truth(value: Any) -> bool:
    """A filter lets through what is true, never what is null."""
    return any(one is True for one in value.values) if isinstance(value, Many) else value is True


def compile_text(text: str, entity_type: EntityType, option: str, now_ns: int) -> Expression:
    """Parse and check an expression. Raises BadQuery naming `option`."""
    return compile_tree(parse(text, option), entity_type, option, now_ns)


def compile_tree(tree: Node, entity_type: EntityType, option: str, now_ns: int) -> Expression:
    """Check a parsed expression. Raises BadQuery naming `option`."""
    term = Compiler(entity_type, option, now_ns).term(tree)
    return Expression(tree, entity_type, option, term, now_ns)


def _constant(value: Any) -> Term:
    return Term(lambda _, __: value, 0, constant=True, value=value)


class Compiler:
    """Makes terms of trees, for one entity type and one option."""

    def __init__(self, entity_type: EntityType, option: str, now_ns: int) -> None:
        self._type = entity_type
        self._option = option
        self._now_ns = now_ns

    def term(self, node: Node) -> Term:
        """The term of a tree. Raises BadQuery."""
        match node:
            case ast.BoolOp():
                made = self._chain(node)
            case ast.UnaryOp(op=ast.Not()):
                made = self._apply(lambda value: None if value is None else not truth(value), [node.operand])
            case ast.UnaryOp():
                made = self._apply(functions.negative, [node.operand])
            case ast.Compare(comparator=ast.In()):
                made = self._member(node)
            case ast.Compare():
                made = self._apply(COMPARISONS[type(node.comparator).__name__], [node.left, node.right])
            case ast.BinOp():
                made = self._apply(partial(functions.calculate, type(node.op).__name__), [node.left, node.right])
            case ast.Call():
                made = self._call(node)
            case ast.Identifier() | ast.Attribute():
                made = self._path(node)
            case _:
                made = _constant(self._literal(node))
        return made

    def _chain(self, node: ast.BoolOp) -> Term:
        every = isinstance(node.op, ast.And)
        members = [self.term(one) for one in chain(node, type(node.op))]
        if every:
            return Term(
                lambda view, entity: all(truth(one.evaluate(view, entity)) for one in members),
                1 + sum(one.weight for one in members),
            )
        return Term(
            lambda view, entity: any(truth(one.evaluate(view, entity)) for one in members),
            1 + sum(one.weight for one in members),
        )

    def _apply(self, function: Callable[..., Any], nodes: list[Node]) -> Term:
        terms = [self.term(node) for node in nodes]
        weight = 1 + sum(one.weight for one in terms)
        if all(one.constant for one in terms):
            try:
                return _constant(function(*(one.value for one in terms)))
            except GeometryError as error:
                raise BadQuery(self._option, str(error)) from None
        several = [place for place, one in enumerate(terms) if one.many]
        if len(several) > 1:
            raise BadQuery(self._option, "one path through a collection in each comparison or function")
        if several:
            return Term(_spread(function, terms, several[0]), weight, many=True)
        if len(terms) == 2:
            first, second = terms[0].evaluate, terms[1].evaluate
            return Term(lambda view, entity: function(first(view, entity), second(view, entity)), weight)
        return Term(lambda view, entity: function(*(one.evaluate(view, entity) for one in terms)), weight)

    def _member(self, node: ast.Compare) -> Term:
        if not isinstance(node.right, ast.List):
            raise BadQuery(self._option, "a list after 'in', such as (1,2,3)")
        wanted = [self._literal(one) for one in node.right.val]
        return self._apply(lambda value: any(functions.equal(value, one) for one in wanted), [node.left])

    def _call(self, node: ast.Call) -> Term:
        name = node.func.name.lower()
        fixed = {"now": self._now_ns, "mindatetime": EARLIEST_NS, "maxdatetime": LATEST_NS}
        if name in fixed and not node.args:
            return _constant(Instant(fixed[name]))
        if name not in FUNCTIONS:
            raise BadQuery(self._option, f"one of the functions {', '.join([*FUNCTIONS, *fixed])}", name)
        least, most, function = FUNCTIONS[name]
        if not least <= len(node.args) <= most:
            raise BadQuery(self._option, f"{least} arguments of {name}", len(node.args))
        return self._apply(function, list(node.args))

    def _literal(self, node: Node) -> Any:
        match node:
            case ast.Null():
                return None
            case ast.Boolean() | ast.Integer() | ast.Float() | ast.String():
                return node.py_val
            case ast.Geography():
                try:
                    return parse_wkt(node.val)
                except GeometryError as error:
                    raise BadQuery(self._option, str(error), node.val) from None
            case ast.UnaryOp(op=ast.USub(), operand=ast.Integer() | ast.Float() as number):
                return -number.py_val
        found: Any = None
        if isinstance(node, ast.DateTime):
            found = parse_instant(node.val)
        elif isinstance(node, ast.Duration):
            found = parse_span(node.val)
        elif isinstance(node, ast.Date | ast.Time):
            kind = date if isinstance(node, ast.Date) else time
            try:
                found = kind.fromisoformat(node.val)
            except ValueError:
                found = None
        if found is None:
            raise BadQuery(self._option, "literals that exist, such as 2026-01-31T08:00:00Z", getattr(node, "val", ""))
        return found

    def _path(self, node: Node) -> Term:
        steps = steps_of(node)
        if steps is None:
            raise BadQuery(self._option, "a path of names")
        walk, at = [], self._type
        while steps and (relation := at.navigation(steps[0])) is not None:
            if relation.target == "Observation":
                raise BadQuery(self._option, "a path that does not go through Observations", "/".join(steps))
            walk.append(relation)
            at, steps = TYPES[relation.target], steps[1:]
        name = steps[0] if steps else ""
        known = name in at.properties or name in ID_NAMES
        if not known or (len(steps) > 1 and name not in at.json):
            names = ", ".join(("id", *at.properties, *at.navigations))
            raise BadQuery(self._option, f"a property of {at.set_name} ({names})", "/".join(steps) or node)
        if at.name == "Datastream" and name in {"phenomenonTime", "resultTime"}:
            raise BadQuery(self._option, "properties/newest/time for Datastreams: their extent is not kept", name)
        return _reader(tuple(walk), name, tuple(steps[1:]))


def _spread(function: Callable[..., Any], terms: list[Term], place: int) -> Evaluate:
    """Apply a function to each of the values that one of its arguments gives."""

    def evaluate(view: View, entity: Entity) -> Any:
        values = [one.evaluate(view, entity) for one in terms]
        several = values[place]
        if not isinstance(several, Many):
            return function(*values)
        return Many(tuple(function(*values[:place], one, *values[place + 1 :]) for one in several.values))

    return evaluate


def _reader(walk: tuple[Navigation, ...], name: str, keys: tuple[str, ...]) -> Term:
    """The value at the end of a path."""
    many = any(relation.many for relation in walk)

    def value(view: View, entity: Entity) -> Any:
        found = property_of(view, entity, name)
        for key in keys:
            if not isinstance(found, dict):
                return None
            found = found.get(key)
        return None if found is ABSENT or isinstance(found, Interval) else found

    def evaluate(view: View, entity: Entity) -> Any:
        entities: list[Entity] = [entity]
        for relation in walk:
            entities = [target for one in entities for target in related(view, one, relation.name)]
        if many:
            return Many(tuple(value(view, one) for one in entities))
        return value(view, entities[0]) if entities else None

    return Term(value if not walk else evaluate, 1 + 2 * len(walk), many=many)
