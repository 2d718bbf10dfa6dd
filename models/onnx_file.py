"""What an ONNX file says before anything runs it: only that its weights are inside.

An ONNX tensor may keep its numbers in another file, named by a path inside the model: such a model is not what its
hash says, and it reads whatever the path leads to. onnxruntime would find out late and in its own words, so the file's
protobuf is walked here: fields are passed over unread, except those that lead to tensors.
"""

from collections.abc import Iterator

# Message kind -> field number -> kind of the message in it. From onnx.proto3, the fields under which tensors can be.
_TREE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _TENSOR_NAME = 13, 14, 8
_MAX_MESSAGES = 1_000_000


class NotOnnx(ValueError):
    """The bytes are not an ONNX model."""


def external_tensor(content: bytes) -> str | None:
    """The name of a tensor whose numbers are in another file; None when there is none. Raises NotOnnx."""
    todo: list[tuple[str, memoryview]] = [("model", memoryview(content))]
    visited, graphs = 0, 0
    while todo:
        kind, message = todo.pop()
        visited += 1
        graphs += kind == "graph"
        if visited > _MAX_MESSAGES:
            raise NotOnnx(f"more than {_MAX_MESSAGES:,} parts")
        if kind == "tensor":
            name, external = _tensor(message)
            if external:
                return name
            continue
        inner = _TREE[kind]
        todo.extend((inner[number], value) for number, value in _fields(message) if number in inner)
    if not graphs:
        raise NotOnnx("it has no graph")
    return None


def _tensor(message: memoryview) -> tuple[str, bool]:
    name, external = "?", False
    for number, value in _fields(message):
        if number == _TENSOR_NAME:
            name = bytes(value[:200]).decode("utf-8", "replace")
        external |= number == _EXTERNAL_DATA or (number == _DATA_LOCATION and bytes(value) != b"\0")
    return name, external


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field: of a varint its own bytes. Raises NotOnnx."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == 0:
            _, at = _varint(message, at)
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, start = _varint(message, at)
            at = start + length
        elif wire == 5:
            at += 4
        else:
            raise NotOnnx(f"wire type {wire}")
        if at > end or not number:
            raise NotOnnx("it is cut off or not protobuf")
        yield number, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise NotOnnx("it is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotOnnx("a number is longer than ten bytes")
