"""Births: what a gateway says of itself, and what a hostile one is answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.catalogue import MAX_BIRTH_BYTES, Birth, Grade, decode_birth, epoch_of
from contract.errors import FrameError


def raw(**changes: Any) -> dict[str, Any]:
    """A small birth as JSON has it."""
    stream = {
        "id": 0,
        "name": "temperature",
        "quantity": "temperature",
        "unit": "Cel",
        "type": "float",
        "interval_s": 1,
    }
    return {
        "gateway": "gw-1",
        "area": {"city": "宁波", "district": "海曙", "street": "解放南路"},
        "devices": [{"name": "weather", "streams": [stream | changes.pop("stream", {})]}],
    } | changes


def birth(**changes: Any) -> Birth:
    return decode_birth(json.dumps(raw(**changes)).encode())


def test_a_birth_comes_back_and_says_where_it_is() -> None:
    found = birth()
    assert decode_birth(found.encode()) == found
    assert str(found.path) == "宁波/海曙/解放南路/gw-1"
    assert found.devices[0].streams[0].stewardship.grade is Grade.RESTRICTED


def test_the_epoch_is_of_the_meaning_not_of_the_spelling() -> None:
    spaced = decode_birth(json.dumps(raw(), indent=4, sort_keys=True).encode())
    assert spaced.epoch == birth().epoch == epoch_of(birth().encode())
    assert birth(stream={"unit": "K"}).epoch != birth().epoch
    assert 0 <= birth().epoch < 2**32


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"gateway": "a/b"}, "gateway"),
        ({"gateway": "#"}, "gateway"),
        ({"area": {"city": "a", "district": "b", "street": ".."}}, "area.street"),
        ({"version": 2}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"site": {"latitude": 91}}, "site.latitude"),
        ({"site": {"longitude": float("nan")}}, "site.longitude"),
        ({"stream": {"unit": "celsius degrees"}}, "devices.0.streams.0.unit"),
        ({"stream": {"id": -1}}, "devices.0.streams.0.id"),
        ({"stream": {"id": 20_000}}, "devices.0.streams.0.id"),
        ({"stream": {"interval_s": 0}}, "devices.0.streams.0.interval_s"),
        ({"stream": {"interval_s": float("inf")}}, "devices.0.streams.0.interval_s"),
        ({"stream": {"valid_range": [float("nan"), 1]}}, "devices.0.streams.0.valid_range.0"),
        ({"stream": {"resolution": float("inf")}}, "devices.0.streams.0.resolution"),
        ({"stream": {"type": "complex"}}, "devices.0.streams.0.type"),
        ({"stream": {"stewardship": {"grade": "secret"}}}, "devices.0.streams.0.stewardship.grade"),
        ({"devices": [{"name": "d", "streams": []}, {"name": 3, "streams": []}]}, "devices.1.name"),
    ],
)
def test_a_wrong_birth_is_told_where(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(FrameError, match=f"not a birth: {place}: "):
        birth(**changes)


def test_two_streams_never_share_an_id_or_a_name() -> None:
    streams = raw()["devices"][0]["streams"]
    with pytest.raises(FrameError, match="share an id"):
        birth(devices=[{"name": "a", "streams": streams}, {"name": "b", "streams": streams}])
    twice = [streams[0], streams[0] | {"id": 1}]
    with pytest.raises(FrameError, match="share device and name"):
        birth(devices=[{"name": "a", "streams": twice}])


@given(st.binary(max_size=200))
def test_noise_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_birth(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"gateway":' * 50_000,
        b" " * (MAX_BIRTH_BYTES + 1),
        b'{"gateway": "\xff"}',
        b'{"gateway": "\\ud800"}',
    ],
    ids=["deep list", "deep object", "long", "not UTF-8", "surrogate"],
)
def test_a_hostile_birth_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_birth(data)
