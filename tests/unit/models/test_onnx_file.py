"""Weights kept elsewhere are found wherever ONNX can hide them, and junk is called junk."""

import contextlib

import numpy as np
import onnx_make as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.onnx_file import NotOnnx, external_tensor

PLAIN = make.tensor("w", np.zeros(3, np.float32))
ELSEWHERE = make.external_tensor("secret", [3], "../../etc/passwd")


def model_of(graph: bytes) -> bytes:
    return make.field(1, 8) + make.field(7, graph)


def in_attribute(number: int, value: bytes) -> bytes:
    return make.field(1, make.field(4, "If") + make.field(5, make.field(1, "x") + make.field(number, value)))


@pytest.mark.parametrize(
    "content",
    [
        model_of(make.field(5, PLAIN) + make.field(5, ELSEWHERE)),
        model_of(make.field(15, make.field(1, ELSEWHERE))),
        model_of(in_attribute(5, ELSEWHERE)),
        model_of(in_attribute(10, ELSEWHERE)),
        model_of(in_attribute(6, make.field(5, ELSEWHERE))),
        model_of(in_attribute(11, in_attribute(22, make.field(2, ELSEWHERE)))),
        model_of(make.field(5, PLAIN)) + make.field(25, make.field(7, in_attribute(5, ELSEWHERE)[2:])),
        model_of(make.field(5, PLAIN)) + make.field(20, make.field(2, make.field(5, ELSEWHERE))),
    ],
)
def test_a_tensor_in_another_file_is_found(content: bytes) -> None:
    assert external_tensor(content) == "secret"


def test_either_sign_of_it_is_enough() -> None:
    assert external_tensor(model_of(make.field(5, make.field(8, "w") + make.field(14, 1)))) == "w"
    assert external_tensor(model_of(make.field(5, make.field(8, "w") + make.field(13, b"")))) == "w"


def test_a_model_with_all_its_weights_inside_has_none() -> None:
    assert external_tensor(make.colour_finder(64, 32, "NCHW", "float32")) is None


@pytest.mark.parametrize(
    "content", [b"", b"\x08\x08", b"GIF89a", b"\xff" * 40, b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_model_says_so(content: bytes) -> None:
    with pytest.raises(NotOnnx):
        external_tensor(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_model_or_not_but_never_a_crash(content: bytes) -> None:
    with contextlib.suppress(NotOnnx):
        external_tensor(content)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_model_is_a_model_or_not_but_never_a_crash(at: int, byte: int) -> None:
    content = bytearray(make.colour_finder(64, 32, "NCHW", "float32"))
    content[at % len(content)] = byte
    with contextlib.suppress(NotOnnx):
        external_tensor(bytes(content))
