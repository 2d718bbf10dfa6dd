"""Codecs that the product does not install: SenML in CBOR, Arrow IPC, pcodec. A script for `.venv-bench`.

    .venv-bench/bin/python bench/wire_peers.py SAMPLES.npz BUDGET ROWS ...

Prints one JSON object: {"ROWS/CODEC": bytes a reading}. It imports nothing of ours, because the environment in which it
runs has nothing of ours; a column's kind, decimals and name are in its key in the file (bench/wire_data.py, save).
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

PEERS = ("senml_cbor_zstd", "arrow_ipc_zstd", "pcodec")
LEVEL = 3


def main(arguments: list[str]) -> int:
    """Measure every peer at every size. budget: at most so many readings are encoded a size."""
    path, budget, sizes = Path(arguments[0]), int(arguments[1]), [int(text) for text in arguments[2:]]
    found: dict[str, float] = {}
    with np.load(path) as file:
        times = file["times"]
        columns = [(name.split("|"), file[name]) for name in sorted(file.files) if name != "times"]
    for rows in sizes:
        starts = range(0, len(times) - rows + 1, rows)
        starts = starts[: max(1, budget // (rows * len(columns)))]
        totals = dict.fromkeys(PEERS, 0)
        for first in starts:
            part = slice(first, first + rows)
            batch = [(about, values[part]) for about, values in columns]
            for name, encode in (("senml_cbor_zstd", senml), ("arrow_ipc_zstd", arrow), ("pcodec", pcodec)):
                totals[name] += len(encode(times[part], batch))
        readings = len(starts) * rows * len(columns)
        found |= {f"{rows}/{name}": total / readings for name, total in totals.items()}
    print(json.dumps(found))
    return 0


def senml(times: Any, batch: list[Any]) -> bytes:
    """RFC 8428: base name and base time once, a record a reading (-2 bn, -3 bt, 0 n, 2 v, 4 vb, 3 vs, 6 t)."""
    cbor2 = importlib.import_module("cbor2")
    labels = {"float": 2, "int": 2, "bool": 4, "text": 3}
    base_s = int(times[0]) / 1e9
    records: list[dict[int, Any]] = []
    for (number, kind, _, _), values in batch:
        label = labels[kind]
        for time_ns, value in zip(times.tolist(), values.tolist(), strict=True):
            records.append({0: number, label: value, 6: round(time_ns / 1e9 - base_s, 6)})
    records[0] = {-2: "gw-1/", -3: base_s, **records[0]}
    return zstandard.ZstdCompressor(level=LEVEL).compress(cbor2.dumps(records))


def arrow(times: Any, batch: list[Any]) -> bytes:
    """One record batch of the IPC stream, its buffers compressed with zstd; the schema counts as sent before."""
    pa = importlib.import_module("pyarrow")
    ipc = importlib.import_module("pyarrow.ipc")
    arrays = [pa.array(times)]
    for (_, kind, _, _), values in batch:
        arrays.append(pa.array(values.tolist() if kind == "text" else values))
    record = pa.record_batch(arrays, names=[str(number) for number in range(len(arrays))])
    sink = pa.BufferOutputStream()
    writer = ipc.new_stream(sink, record.schema, options=ipc.IpcWriteOptions(compression="zstd"))
    schema_bytes = sink.tell()
    writer.write_batch(record)
    size = sink.tell()
    return bytes(sink.getvalue())[schema_bytes:size]


def pcodec(times: Any, batch: list[Any]) -> bytes:
    """Each column by itself, as pcodec is meant; texts as zstd, which it has not."""
    pco = importlib.import_module("pcodec")
    standalone = importlib.import_module("pcodec.standalone")
    config = pco.ChunkConfig()
    parts = [standalone.simple_compress(times, config)]
    for (_, kind, _, _), values in batch:
        if kind == "text":
            parts.append(zstandard.ZstdCompressor(level=LEVEL).compress("\0".join(values.tolist()).encode()))
        else:
            numbers = values.astype(np.uint16) if kind == "bool" else np.ascontiguousarray(values)
            parts.append(standalone.simple_compress(numbers, config))
    return b"".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
