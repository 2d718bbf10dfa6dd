"""The text of an expression becomes a tree: our tokens, the grammar and tree of odata-query.

Its lexer knows OData 4; SensorThings clients send `@iot.id`, `substringof`, `st_within`, properties whose names begin
with `any` or `null`, and offsets whose `+` became a blank. So the tokens are made here, and length, depth and number
of operators are bounded before anything walks the tree.
"""

import re
from collections.abc import Iterator

from odata_query import ast
from odata_query.exceptions import ODataException
from odata_query.grammar import ODataParser
from sly.lex import Token  # type: ignore[import-untyped]  # it has no type marks

from cloud.hub.problems import BadQuery

Node = ast._Node  # noqa: SLF001 - the library names its nodes' root so

MAX_CHARS = 8000
MAX_DEPTH = 40
MAX_NODES = 2000
MAX_STEPS = 8  # in one path

_TOKEN = re.compile(
    r"""(?P<WS>\s+)
    |(?P<GEOGRAPHY>(?:geography|geometry)'(?:[^']|'')*')
    |(?P<DURATION>duration'[^']*')
    |(?P<STRING>'(?:[^']|'')*')
    |(?P<DATETIME>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+\- ]\d\d:\d\d|[+-]\d{4})?(?![\w:]))
    |(?P<DATE>\d{4}-\d\d-\d\d(?![\w-]))
    |(?P<TIME>\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?(?![\w:]))
    |(?P<DECIMAL>[+-]?\d{1,400}(?:\.\d{1,400}(?:[eE][+-]?\d{1,4})?|[eE][+-]?\d{1,4})(?![\w.]))
    |(?P<INTEGER>[+-]?\d{1,400}(?![\w.]))
    |(?P<NAME>@?[^\W\d][\w.]*)
    |(?P<MARK>[(),/])
    |(?P<MINUS>-)""",
    re.VERBOSE | re.ASCII,
)
_OPERATORS: dict[str, type] = {
    "and": ast.And,
    "or": ast.Or,
    "not": ast.Not,
    "eq": ast.Eq,
    "ne": ast.NotEq,
    "lt": ast.Lt,
    "le": ast.LtE,
    "gt": ast.Gt,
    "ge": ast.GtE,
    "in": ast.In,
    "add": ast.Add,
    "sub": ast.Sub,
    "mul": ast.Mult,
    "div": ast.Div,
    "mod": ast.Mod,
}
_LITERALS: dict[str, type] = {
    "INTEGER": ast.Integer,
    "DECIMAL": ast.Float,
    "DATETIME": ast.DateTime,
    "DATE": ast.Date,
    "TIME": ast.Time,
}
FUNCTION = ("call",)  # the namespace that keeps odata-query from refusing what it does not know


def parse(text: str, option: str) -> Node:
    """The tree of one expression. Raises BadQuery naming `option`."""
    if len(text) > MAX_CHARS:
        raise BadQuery(option, f"at most {MAX_CHARS} characters", f"{len(text)} characters")
    tokens = list(_tokens(text, option))
    if not tokens:
        raise BadQuery(option, "an expression such as phenomenonTime ge 2026-01-01T00:00:00Z", text)
    if len(tokens) > MAX_NODES:
        raise BadQuery(option, f"at most {MAX_NODES} words and signs", f"{len(tokens)} of them")
    try:
        tree: Node | None = ODataParser().parse(iter(tokens))
    except ODataException as error:
        raise BadQuery(
            option, "an expression of names, literals, operators and functions", _place(error, text)
        ) from None
    if tree is None:
        raise BadQuery(option, "an expression of names, literals, operators and functions", text)
    _bounded(tree, option)
    return tree


def _tokens(text: str, option: str) -> Iterator[Token]:
    position, before, steps = 0, "", 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (match.lastgroup in {"INTEGER", "DECIMAL"} and match[0][0] in "+-" and before == "operand"):
            raise BadQuery(option, "names, literals and operators", text[position : position + 40])
        kind, word = str(match.lastgroup), match[0]
        follows = text[match.end() : match.end() + 1]
        if kind == "WS":
            position = match.end()
            continue
        token = _token(kind, word, text, match.end(), before)
        token.index, token.lineno = position, 1
        steps = steps + 1 if word == "/" else steps if before == "/" else 0
        if steps > MAX_STEPS:
            raise BadQuery(option, f"paths of at most {MAX_STEPS} steps", text[max(0, position - 40) : position + 20])
        before = "/" if word == "/" else "operand" if token.type in _ENDS else ""
        position = match.end()
        if before == "operand" and kind in {"INTEGER", "DECIMAL", "STRING"} and follows in {"'", "@"}:
            raise BadQuery(option, "a blank or a sign after a literal", text[position - 1 : position + 20])
        yield token


_ENDS = {"ODATA_IDENTIFIER", "NULL", "BOOLEAN", "STRING", "GEOGRAPHY", "DURATION", *_LITERALS, ")"}


def _token(kind: str, word: str, text: str, end: int, before: str) -> Token:
    token = Token()
    if kind in _LITERALS:
        token.type, token.value = kind, _LITERALS[kind](word)
    elif kind == "STRING":
        token.type, token.value = "STRING", ast.String(word[1:-1].replace("''", "'"))
    elif kind == "GEOGRAPHY":
        token.type, token.value = "GEOGRAPHY", ast.Geography(word[word.index("'") + 1 : -1])
    elif kind == "DURATION":
        token.type, token.value = "DURATION", ast.Duration(word[len("duration'") : -1])
    elif kind == "MARK":
        token.type, token.value = word, word
    elif kind == "MINUS":
        token.type, token.value = "UMINUS", ast.USub()
    else:
        token.type, token.value = _named(word, text[end:].lstrip()[:1], before)
    return token


def _named(word: str, follows: str, before: str) -> tuple[str, object]:
    """What a word is depends on what stands around it: `properties/in` is a path, `in (` is an operator."""
    if before == "/":
        return "ODATA_IDENTIFIER", ast.Identifier(word)
    lower = word.lower()
    if lower in _OPERATORS and (before == "operand") is (lower != "not"):
        operator = _OPERATORS[lower]()
        return lower.upper(), operator
    if follows == "(":
        return "ODATA_IDENTIFIER", ast.Identifier(lower, FUNCTION)
    if lower in {"true", "false"} and follows != "/":
        return "BOOLEAN", ast.Boolean(lower)
    if lower == "null" and follows != "/":
        return "NULL", ast.Null()
    return "ODATA_IDENTIFIER", ast.Identifier(word)


def _place(error: ODataException, text: str) -> str:
    token = getattr(error, "token", None)
    index = getattr(token, "index", None)
    return text[index : index + 40] if isinstance(index, int) else f"{text[-40:]} (it ends too early)"


def children(node: Node) -> list[Node]:
    """What a node is made of."""
    match node:
        case ast.BoolOp() | ast.BinOp() | ast.Compare():
            return [node.left, node.right]
        case ast.UnaryOp():
            return [node.operand]
        case ast.Call():
            return list(node.args)
        case ast.List():
            return list(node.val)
        case _:
            return []


def _bounded(tree: Node, option: str) -> None:
    """Refuse trees that a recursive walk would not survive; chains of `and` and `or` count as one step."""
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadQuery(option, f"expressions nested at most {MAX_DEPTH} deep")
        for child in children(node):
            chained = isinstance(node, ast.BoolOp) and isinstance(child, ast.BoolOp) and child.op == node.op
            waiting.append((child, depth if chained else depth + 1))


def chain(node: Node, operator: type) -> list[Node]:
    """The members of `a and b and c` (or `or`), in order; the node itself when it is no such chain."""
    members, waiting = [], [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.BoolOp) and isinstance(one.op, operator):
            waiting += [one.right, one.left]
        else:
            members.append(one)
    return members


def steps_of(node: Node) -> list[str] | None:
    """`a/b/c` as its names; None when the node is no path."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(str(node.attr))
        node = node.owner
    if not isinstance(node, ast.Identifier) or node.namespace:
        return None
    return [node.name, *reversed(names)]
