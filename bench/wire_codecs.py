"""What others would send for the same samples: codecs that need nothing but what the product has already.

Each gives the bytes of one message. Numbers are written as the usual program writes them: a JSON row a reading with its
names; Sparkplug B with aliases, as its tahu schema lays a metric out; and the plainest column coding there is, decimal
integers, delta, varint. All but the last are lossless by themselves; the last because resolutions are known.
"""

import json
import struct
from collections.abc import Callable, Iterable

import numpy as np
import zstandard

from bench.wire_data import Column, Samples
from contract.readings import Kind

LEVEL = 3
_compressor = zstandard.ZstdCompressor(level=LEVEL)


def zstd(data: bytes) -> bytes:
    """As a frame of its own, at the level the product uses."""
    return _compressor.compress(data)


def decompressor() -> zstandard.ZstdDecompressor:
    """The other way."""
    return zstandard.ZstdDecompressor()


def json_rows(samples: Samples) -> bytes:
    """A JSON object a reading, with names: what most gateways publish."""
    rows = []
    columns = [(one.name, one.values.tolist()) for one in samples.columns]
    for row, time_ns in enumerate(samples.times.tolist()):
        rows += [
            {"device": "cabinet-1", "stream": name, "time": time_ns, "value": values[row], "quality": "good"}
            for name, values in columns
        ]
    return json.dumps(rows, separators=(",", ":")).encode()


def sparkplug(samples: Samples) -> bytes:
    """A Sparkplug B payload: a metric a reading, by alias."""
    out = bytearray(_field(1, int(samples.times[-1]) // 1_000_000))
    columns = [(number, one.kind, one.values.tolist()) for number, one in enumerate(samples.columns)]
    for row, time_ns in enumerate(samples.times.tolist()):
        for alias, kind, values in columns:
            metric = _field(2, alias) + _field(3, time_ns // 1_000_000) + _metric_value(kind, values[row])
            out += b"\x12" + _varint(len(metric)) + metric
    return bytes(out + _field(3, 17))


def _metric_value(kind: Kind, value: object) -> bytes:
    if kind is Kind.FLOAT:
        return _field(4, 10) + b"\x69" + struct.pack("<d", value)
    if kind is Kind.INT:
        return _field(4, 4) + _field(11, int(str(value)))
    if kind is Kind.BOOL:
        return _field(4, 11) + _field(14, 1 if value else 0)
    text = str(value).encode()
    return _field(4, 12) + b"\x7a" + _varint(len(text)) + text


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delta_varint(samples: Samples) -> bytes:
    """Decimal-scaled integers, delta, zigzag, varint, a column after the other; doubles without resolution raw."""
    times = _varints(_zigzag(np.diff(samples.times, prepend=0)))
    return times + b"".join(map(_column, samples.columns))


def _column(one: Column) -> bytes:
    if one.kind is Kind.TEXT:
        return "\0".join(one.values.tolist()).encode()
    if one.kind is Kind.FLOAT and one.decimals < 0:
        return one.values.tobytes()
    if one.kind is Kind.FLOAT:
        whole = np.rint(one.values.astype(np.float64) * 10**one.decimals).astype(np.int64)
    else:
        whole = one.values.astype(np.int64)
    return _varints(_zigzag(np.diff(whole, prepend=0)))


def _zigzag(numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> list[int]:
    folded: list[int] = ((numbers << 1) ^ (numbers >> 63)).astype(np.uint64).tolist()
    return folded


def _varints(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_varint, numbers))


CODECS: dict[str, Callable[[Samples], bytes]] = {
    "json": json_rows,
    "json_zstd": lambda samples: zstd(json_rows(samples)),
    "sparkplug_zstd": lambda samples: zstd(sparkplug(samples)),
    "delta_varint_zstd": lambda samples: zstd(delta_varint(samples)),
}
