"""The query options of a request, parsed and checked against the type they are asked of: $filter to resultFormat.

Everything that is wrong is a BadQuery that names the option. What a client needs to ask for the next page is kept as
it was given, so that a next link carries all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from cloud.hub.problems import BadQuery
from cloud.hub.sensorthings.expression import Expression, compile_text
from cloud.hub.sensorthings.spec import ID_NAMES, SELF_LINK, TYPES, EntityType, Navigation
from cloud.hub.sensorthings.syntax import MAX_CHARS

DEFAULT_TOP = 100
MAX_TOP = 1000
MAX_SKIP = 100_000_000
MAX_EXPANDS = 40
MAX_EXPAND_DEPTH = 6
MAX_ORDER = 8
MAX_SELECT = 100
OPTIONS = ("$filter", "$select", "$expand", "$orderby", "$top", "$skip", "$count", "$skiptoken")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Order:
    """One key of $orderby."""

    key: Expression
    text: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page of Observations ended: the stream's number and the time."""

    number: int
    time_ns: int

    def __str__(self) -> str:
        return f"{self.number}-{self.time_ns}"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of one entity or collection. top: at most MAX_TOP. pairs: the options as they were given."""

    entity_type: EntityType
    filter: Expression | None = None
    select: tuple[tuple[str, ...], ...] | None = None
    expand: tuple["Expand", ...] = ()
    order: tuple[Order, ...] = ()
    top: int = DEFAULT_TOP
    skip: int = 0
    token: Token | None = None
    count: bool = False
    data_array: bool = False
    pairs: tuple[tuple[str, str], ...] = ()

    def link(self, **changes: str | None) -> str:
        """The options of another page: skip= or skiptoken=, the rest as it was given."""
        left_out = {"$skip", "$skiptoken"}
        pairs = [pair for pair in self.pairs if pair[0] not in left_out]
        pairs += [(f"${name}", value) for name, value in changes.items() if value is not None]
        return "&".join(f"{name}={_encoded(value)}" for name, value in pairs)


@dataclass(frozen=True, slots=True)
class Expand:
    """One relation to expand, and what is asked of its end."""

    navigation: Navigation
    query: Query


def _encoded(value: str) -> str:
    return quote(value, safe="/:;,()'*@!$=~")


def parse_query(pairs: Pairs, entity_type: EntityType, now_ns: int, *, collection: bool = True) -> Query:
    """The options of a request. collection: of one entity, paging and filtering options mean nothing and are passed by.

    Names that do not begin with `$` are the client's own business. Raises BadQuery.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith("$") or name.lower() == "resultformat":
            known = next((option for option in (*OPTIONS, "resultFormat") if option.lower() == name.lower()), None)
            if known is None:
                raise BadQuery(name[:40], f"one of the options {', '.join(OPTIONS)}, resultFormat")
            if known in given:
                raise BadQuery(known, "the option once")
            if "\0" in value or len(value) > MAX_CHARS:
                raise BadQuery(known, f"at most {MAX_CHARS} characters, none of them NUL")
            given[known] = value
    if not collection:
        given = {name: value for name, value in given.items() if name in {"$select", "$expand", "$count"}}
    return _Parser(now_ns).query(tuple(given.items()), entity_type, depth=0)


class _Parser:
    """Parses the options of one request; counts its expansions."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._expands = 0

    def query(self, pairs: tuple[tuple[str, str], ...], entity_type: EntityType, depth: int) -> Query:
        """The query of these options. Raises BadQuery."""
        options = dict(pairs)
        filter_text, top = options.get("$filter"), options.get("$top")
        return Query(
            entity_type,
            None if filter_text is None else compile_text(filter_text, entity_type, "$filter", self._now_ns),
            _select(options["$select"], entity_type) if "$select" in options else None,
            self._expand(options["$expand"], entity_type, depth) if "$expand" in options else (),
            self._order(options["$orderby"], entity_type) if "$orderby" in options else (),
            DEFAULT_TOP if top is None else min(_whole("$top", top), MAX_TOP),
            _whole("$skip", options.get("$skip", "0"), MAX_SKIP),
            _token(options.get("$skiptoken"), entity_type),
            _truth(options.get("$count", "false")),
            _is_data_array(options.get("resultFormat"), entity_type),
            pairs,
        )

    def _order(self, text: str, entity_type: EntityType) -> tuple[Order, ...]:
        keys = split(text, ",", "$orderby")
        if len(keys) > MAX_ORDER:
            raise BadQuery("$orderby", f"at most {MAX_ORDER} keys", f"{len(keys)} keys")
        found = []
        for key in keys:
            words = key.strip().rsplit(None, 1)
            direction = words[-1].lower() if len(words) == 2 else ""
            path = words[0] if direction in {"asc", "desc"} else key.strip()
            expression = compile_text(path, entity_type, "$orderby", self._now_ns)
            if expression.term.many:
                raise BadQuery("$orderby", "keys that do not go through a collection", path)
            found.append(Order(expression, path, direction == "desc"))
        return tuple(found)

    def _expand(self, text: str, entity_type: EntityType, depth: int) -> tuple[Expand, ...]:
        if depth >= MAX_EXPAND_DEPTH:
            raise BadQuery("$expand", f"at most {MAX_EXPAND_DEPTH} levels")
        found: dict[str, Expand] = {}
        for item in split(text, ",", "$expand"):
            self._expands += 1
            if self._expands > MAX_EXPANDS:
                raise BadQuery("$expand", f"at most {MAX_EXPANDS} relations")
            one = self._expand_item(item.strip(), entity_type, depth)
            before = found.get(one.navigation.name)
            found[one.navigation.name] = one if before is None else _merged(before, one)
        return tuple(found.values())

    def _expand_item(self, item: str, entity_type: EntityType, depth: int) -> Expand:
        """`Relation`, `Relation(option;option)`, or `Relation/Relation`, the same as `Relation($expand=Relation)`."""
        end = next((place for place, char in enumerate(item) if char in "/("), len(item))
        name, rest = item[:end].strip(), item[end:]
        navigation = entity_type.navigation(name)
        if navigation is None:
            names = ", ".join(entity_type.navigations)
            raise BadQuery("$expand", f"a relation of {entity_type.set_name} ({names})", name or item)
        target = TYPES[navigation.target]
        if rest.startswith("/"):
            return Expand(navigation, self.query((("$expand", rest[1:]),), target, depth + 1))
        if rest and not rest.endswith(")"):
            raise BadQuery("$expand", "options in parentheses, such as Observations($top=1)", item)
        pairs: dict[str, str] = {}
        for part in split(rest[1:-1], ";", "$expand") if rest[1:-1].strip() else []:
            option, equals, value = part.strip().partition("=")
            if not equals or option not in OPTIONS or option in pairs:
                raise BadQuery("$expand", f"options {', '.join(OPTIONS)}, each once, separated by ';'", part)
            pairs[option] = value
        return Expand(navigation, self.query(tuple(pairs.items()), target, depth + 1))


def _merged(first: Expand, second: Expand) -> Expand:
    """`Datastreams/Sensor,Datastreams/Observations`: one relation, what was asked of it together."""
    older, newer = first.query, second.query
    expand = {one.navigation.name: one for one in older.expand}
    for one in newer.expand:
        before = expand.get(one.navigation.name)
        expand[one.navigation.name] = one if before is None else _merged(before, one)
    base = newer if len(newer.pairs) > 1 or not newer.expand else older
    pairs = [pair for pair in base.pairs if pair[0] != "$expand"]
    asked = ",".join(dict(query.pairs)["$expand"] for query in (older, newer) if query.expand)
    if asked:
        pairs.append(("$expand", asked))
    return Expand(first.navigation, replace(base, expand=tuple(expand.values()), pairs=tuple(pairs)))


def _select(text: str, entity_type: EntityType) -> tuple[tuple[str, ...], ...] | None:
    parts = [part.strip() for part in split(text, ",", "$select")]
    if len(parts) > MAX_SELECT:
        raise BadQuery("$select", f"at most {MAX_SELECT} properties", f"{len(parts)} of them")
    if "*" in parts:
        return None
    found: list[tuple[str, ...]] = []
    for part in parts:
        steps = tuple(part.split("/"))
        relation = entity_type.navigation(steps[0]) if len(steps) == 1 else None
        if relation is not None:
            found.append((relation.name,))
            continue
        known = steps[0] in (*entity_type.properties, *ID_NAMES, SELF_LINK)
        if not known or "" in steps or len(steps) > 8 or (len(steps) > 1 and steps[0] not in entity_type.json):
            names = ", ".join(("id", *entity_type.properties, *entity_type.navigations))
            raise BadQuery("$select", f"properties of {entity_type.set_name} ({names})", part)
        found.append(steps)
    return tuple(found)


def _whole(option: str, text: str, most: int = 2**63) -> int:
    word = text.strip()
    if not (word.isascii() and word.isdecimal() and len(word) <= 20) or int(word) > most:
        raise BadQuery(option, f"a whole number from 0 to {most}", text)
    return int(word)


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in {"true", "false"}:
        raise BadQuery("$count", "true or false", text)
    return word == "true"


def _token(text: str | None, entity_type: EntityType) -> Token | None:
    if text is None:
        return None
    number, _, time = text.partition("-")
    sign = time.removeprefix("-")
    plain = number.isascii() and number.isdecimal() and sign.isascii() and sign.isdecimal()
    if entity_type.name != "Observation" or not plain or len(number) > 18 or not -(2**63) <= int(time[:21]) < 2**63:
        raise BadQuery("$skiptoken", "what a next link of this collection of Observations holds", text)
    return Token(int(number), int(time))


def _is_data_array(text: str | None, entity_type: EntityType) -> bool:
    if text is None or text.lower() == "default":
        return False
    if text.lower() != "dataarray" or entity_type.name != "Observation":
        raise BadQuery("resultFormat", "dataArray, of Observations", text)
    return True


def split(text: str, separator: str, option: str) -> list[str]:
    """Parts of a list, whose separator counts neither in parentheses nor in quotes. Raises BadQuery."""
    parts, start, depth, quoted = [], 0, 0, False
    for place, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                break
        elif char == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    if depth or quoted:
        raise BadQuery(option, "parentheses and quotes that are closed", text[-60:])
    parts.append(text[start:])
    if any(not part.strip() for part in parts):
        raise BadQuery(option, f"parts separated by {separator!r}", text[:60])
    return parts
