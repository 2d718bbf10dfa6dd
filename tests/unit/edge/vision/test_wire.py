"""What may leave the processes that see pictures: no type of the wire has room for one."""

import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from edge.vision import wire
from edge.vision.scene import PROFILE_LENGTH
from edge.vision.wire import LINE_BYTES, Closed, Confirmed, Learned, Refused, Said, Seen, decode, encode

THUMBNAIL_NUMBERS = 320 * 180
SEEN = Seen(0, "ok", "", 5.0, 1.5, 100, 50, 0, 1, 0, 1_000_000_000)


def room(kind: Any, limits: msgspec.Meta | None = None) -> int:
    """How many bytes or numbers a value of a type can carry at most. Fails for a type without a bound."""
    if get_origin(kind) is Annotated:
        kind, limits = get_args(kind)[0], next(one for one in get_args(kind)[1:] if isinstance(one, msgspec.Meta))
    if get_origin(kind) in {Union, types.UnionType}:
        return max(room(one, limits) for one in get_args(kind))
    if kind in {int, float, bool, type(None)}:
        return 1
    assert limits is not None, f"{kind} has no bound"
    assert limits.max_length is not None, f"{kind} has no bound"
    if kind is str:
        return limits.max_length
    assert get_origin(kind) is list, f"{kind}: neither a number, a word nor a list of those"
    return limits.max_length * room(get_args(kind)[0])


@pytest.mark.parametrize("kind", get_args(Said))
def test_no_field_can_hold_a_picture(kind: type[msgspec.Struct]) -> None:
    for name, hint in get_type_hints(kind, include_extras=True).items():
        numbers_only = "str" not in str(hint)
        # A list of single numbers stays below a tenth of a thumbnail; words are for people.
        assert room(hint) <= (THUMBNAIL_NUMBERS // 10 if numbers_only else LINE_BYTES), name
        assert "bytes" not in str(hint), name
        assert "Any" not in str(hint), name


def test_everything_that_is_said_is_one_of_these_types() -> None:
    structs = {one for one in vars(wire).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)}
    orders = {
        wire.Order,
        wire.CameraOrder,
        wire.Confirm,
        msgspec.Struct,
    }  # what the gateway says, which has no pictures
    assert structs - orders == set(get_args(Said))


@pytest.mark.parametrize(
    "said",
    [
        SEEN,
        Closed(3, 123, [1, 2.5, "ok", None], [0, 0x47, 0, 0xDB]),
        Learned(1, "abc", [0, 255] * (PROFILE_LENGTH // 2), [7] * PROFILE_LENGTH, 12.5, 0.01, 3.0),
        Confirmed(1, 7, "it shows nothing just now", 30.0),
        Refused(["line 3: no such model"]),
    ],
)
def test_a_line_says_what_was_said(said: Said) -> None:
    line = encode(said)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == said


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ready\n",
        b'{"type":"picture","camera":0}\n',
        b'{"type":"closed","camera":0,"time_ns":1,"values":["' + b"x" * 65 + b'"],"status":[0]}\n',
        b'{"type":"closed","camera":0,"time_ns":1,"values":[[1,2]],"status":[0]}\n',
        b'{"type":"closed","camera":0,"time_ns":1,"values":[1],"status":[256]}\n',
        b'{"type":"refused","problems":["' + b"y" * 301 + b'"]}\n',
        b"\xff\xd8\xff\xe0 a jpeg\n",
    ],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a line of the vision worker"):
        decode(line)


def test_a_line_longer_than_the_gateway_reads_is_not_sent() -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode(Closed(0, 1, ["w" * 64] * wire.MAX_STREAMS, [0] * wire.MAX_STREAMS))
