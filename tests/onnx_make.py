"""Tiny ONNX models for tests, written field by field: the onnx package is not needed to run one, nor to make one.

Messages and field numbers are those of onnx.proto3 (IR version 8, opset 17).
"""

import struct
from collections.abc import Sequence

import numpy as np

from models.types import Array

TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}
Attribute = int | float | str | Sequence[int]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, array: Array) -> bytes:
    dims = b"".join(field(1, length) for length in array.shape)
    return dims + field(2, TYPES[str(array.dtype)]) + field(8, name) + field(9, array.tobytes())


def external_tensor(name: str, shape: Sequence[int], location: str) -> bytes:
    dims = b"".join(field(1, length) for length in shape)
    entry = field(1, "location") + field(2, location)
    return dims + field(2, TYPES["float32"]) + field(8, name) + field(13, entry) + field(14, 1)


def attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    return field(1, name) + b"".join(field(8, item) for item in value) + field(20, 7)


def node(kind: str, inputs: str, outputs: str, **attributes: Attribute) -> bytes:
    """`inputs` and `outputs` are names with spaces between them."""
    parts = [field(1, name) for name in inputs.split()] + [field(2, name) for name in outputs.split()]
    parts += [field(5, attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts) + field(4, kind)


def port(name: str, kind: str, shape: Sequence[int | str]) -> bytes:
    """An input or output; a word in `shape` is a free length."""
    lengths = b"".join(field(1, field(1 if isinstance(one, int) else 2, one)) for one in shape)
    return field(1, name) + field(2, field(1, field(1, TYPES[kind]) + field(2, lengths)))


def model(nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], tensors: Sequence[bytes]) -> bytes:
    graph = b"".join(field(1, one) for one in nodes) + field(2, "g") + b"".join(field(5, one) for one in tensors)
    graph += b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)
    return field(1, 8) + field(2, "weinao-tests") + field(7, graph) + field(8, field(1, "") + field(2, 17))


def constant(outputs: dict[str, Array], picture: bytes, name: str = "images") -> bytes:
    """A model that answers `outputs` whatever `picture`, its input port, holds."""
    nodes, ports, tensors = [node("Shape", name, "unused")], [], []
    for output, array in outputs.items():
        tensors.append(tensor(f"{output}_is", array))
        nodes.append(node("Identity", f"{output}_is", output))
        ports.append(port(output, str(array.dtype), array.shape))
    return model(nodes, [picture], ports, tensors)


def colour_finder(width: int, height: int, layout: str, dtype: str, *, swap: bool = False) -> bytes:
    """A detector in the YOLOv8 layout that finds bright 8x8 cells: class 0, 1, 2 is channel 0, 1, 2 of the tensor.

    Scores are the mean of a channel over the cell, of 0..1. A bytes model divides by 255 itself. Output output0.
    """
    cells_x, cells_y = width // 8, height // 8
    y, x = np.mgrid[:cells_y, :cells_x]
    boxes = np.stack([x.ravel() * 8 + 4, y.ravel() * 8 + 4, np.full(x.size, 8), np.full(x.size, 8)])[None]
    shape = (1, 3, height, width) if layout == "NCHW" else (1, height, width, 3)
    nodes, at = [], "images"
    if dtype != "float32":
        nodes.append(node("Cast", at, "real", to=TYPES["float32"]))
        at = "real"
    if dtype == "uint8":
        nodes.append(node("Div", f"{at} full", "unit"))
        at = "unit"
    if layout == "NHWC":
        nodes.append(node("Transpose", at, "planes", perm=(0, 3, 1, 2)))
        at = "planes"
    if swap:
        nodes.append(node("Gather", f"{at} backwards", "swapped", axis=1))
        at = "swapped"
    nodes.append(node("AveragePool", at, "cells", kernel_shape=(8, 8), strides=(8, 8)))
    nodes.append(node("Reshape", "cells flat", "scores"))
    nodes.append(node("Concat", "boxes scores", "output0", axis=1))
    tensors = [
        tensor("full", np.array(255, np.float32)),
        tensor("backwards", np.array([2, 1, 0], np.int64)),
        tensor("flat", np.array([1, 3, -1], np.int64)),
        tensor("boxes", boxes.astype(np.float32)),
    ]
    output = port("output0", "float32", (1, 7, cells_x * cells_y))
    return model(nodes, [port("images", dtype, shape)], [output], tensors)
