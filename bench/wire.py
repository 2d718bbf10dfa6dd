"""Why: on mobile networks bytes are money and battery. What does a reading cost on the wire, and to write and read?

Payload bytes of a frame, books and header included, over its readings; every frame is decoded and compared bit by bit.
Floor: the order-0 entropy of each stream's deltas, which no codec that looks at one delta at a time can go below.
Reference: a JSON object a reading, zstd over the message. Peers that the product does not need are measured when
`.venv-bench` has them.
"""

import json
import subprocess
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from bench import wire_codecs
from bench.processes import ROOT, BenchFailed, folder
from bench.report import Figure, Report
from bench.wire_data import Framer, Samples, entropy_bytes, mix, world
from bench.wire_peers import PEERS
from bench.wire_socket import socket_figures
from contract import frame
from contract.frame import Frame
from contract.readings import Kind

SIZES = (1, 10, 60, 600)
MIX_TARGETS = {1: 3.0, 10: 0.9, 60: 0.5, 600: 0.35}
ENCODE_NS, DECODE_NS = 150.0, 100.0
NOTES = {
    "mix": "",
    "mix_jitter": "the mix with the times of a real gateway, 1.6 ms of jitter in whole us",
    "world": "target: the best other codec below",
}
BUDGET_READINGS = 120_000
INSTALL = "not installed: python3 -m venv .venv-bench && .venv-bench/bin/pip install -r bench/requirements.txt"


def run(report: Report, *, quick: bool) -> None:
    """All figures of the wire."""
    budget = BUDGET_READINGS // (10 if quick else 1)
    data = {"mix": mix(), "mix_jitter": mix(even=False), "world": world()}
    for name, samples in data.items():
        others = _others(samples, budget)
        for rows in SIZES:
            _sizes(report, name, samples, rows, others, budget)
    for name in ("mix", "world"):
        samples = data[name]
        _speeds(report, name, samples.first(60), repeats=30 if quick else 150)
    with folder() as where:
        socket_figures(report, where, data["mix"], SIZES)


def _sizes(
    report: Report, name: str, samples: Samples, rows: int, others: dict[str, float | None], budget: int
) -> None:
    found = {codec: others[f"{rows}/{codec}"] for codec in (*wire_codecs.CODECS, *PEERS)}
    rivals = [value for value in found.values() if value is not None]
    targets = {"mix": MIX_TARGETS[rows], "world": min(rivals)}
    framer = Framer(samples.columns)
    total = readings = 0
    floor = 0.0
    for batch in islice(samples.batches(rows), max(1, budget // (rows * len(samples.columns)))):
        made = framer.frame(batch)
        data = frame.encode(made)
        _check_lossless(made, frame.decode(data))
        total += len(data)
        readings += batch.readings
        floor += entropy_bytes(batch)
    prefix = f"wire/{name}/{rows}"
    report.add(
        Figure(
            f"{prefix}/bytes_per_reading",
            total / readings,
            "B",
            target=targets.get(name),
            floor=floor / readings if rows > 1 else None,
            reference=found["json_zstd"],
            note=NOTES[name],
        )
    )
    for codec, value in found.items() if name in targets else ():
        report.add(Figure(f"{prefix}/{codec}", value, "B", note="" if value is not None else INSTALL))


def _check_lossless(made: Frame, back: Frame) -> None:
    if len(made.tables) != len(back.tables):
        raise BenchFailed("the frame came back with other tables")
    for one, other in zip(made.tables, back.tables, strict=True):
        same = np.array_equal(one.times, other.times) and np.array_equal(one.status, other.status)
        left, right = one.values, other.values
        if one.kind is Kind.FLOAT:
            left, right = left.view(np.int64), np.ascontiguousarray(right).view(np.int64)
        if not same or not np.array_equal(left, right):
            raise BenchFailed(f"a {one.kind} table came back changed")


def _others(samples: Samples, budget: int) -> dict[str, float | None]:
    """Bytes a reading by ROWS/CODEC; None where the codec is not installed."""
    found: dict[str, float | None] = {}
    for rows in SIZES:
        most = max(1, budget // 6 // (rows * len(samples.columns)))
        batches = list(islice(samples.batches(rows), most))
        readings = sum(batch.readings for batch in batches)
        for name, encode in wire_codecs.CODECS.items():
            found[f"{rows}/{name}"] = sum(len(encode(batch)) for batch in batches) / readings
    return found | _peers(samples, budget)


def _peers(samples: Samples, budget: int) -> dict[str, float | None]:
    missing: dict[str, float | None] = {f"{rows}/{name}": None for rows in SIZES for name in PEERS}
    python = ROOT / ".venv-bench" / "bin" / "python"
    if not python.exists():
        return missing
    with folder() as where:
        path = where / "samples.npz"
        samples.save(path)
        script = Path(__file__).with_name("wire_peers.py")
        command = [str(python), str(script), str(path), str(budget // 6), *map(str, SIZES)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BenchFailed(f"the peers in .venv-bench failed: {answer.stderr.strip().splitlines()[-1]}")
    measured: dict[str, float] = json.loads(answer.stdout)
    return {**missing, **measured}


def _speeds(report: Report, name: str, samples: Samples, repeats: int) -> None:
    """Time to write and to read a frame of 60 samples a stream, a reading. Targets hold for the mix."""
    made = Framer(samples.columns).frame(samples)
    data = frame.encode(made)
    count = samples.readings
    bare = _Bare(samples)
    text = wire_codecs.json_rows(samples)
    few = max(3, repeats // 20)
    rounds: dict[str, tuple[Callable[[], object], int]] = {
        "encode": (lambda: frame.encode(made), repeats),
        "encode_floor": (bare.encode, repeats),
        "encode_json": (lambda: wire_codecs.zstd(wire_codecs.json_rows(samples)), few),
        "decode": (lambda: frame.decode(data), repeats),
        "decode_floor": (bare.decode, repeats),
        "decode_json": (lambda: json.loads(text), few),
    }
    ns = {what: _best_ns(call, times) / count for what, (call, times) in rounds.items()}
    for what, target in (("encode", ENCODE_NS), ("decode", DECODE_NS)):
        report.add(
            Figure(
                f"wire/{name}/60/{what}_ns_per_reading",
                ns[what],
                "ns",
                target=target if name == "mix" else None,
                floor=ns[f"{what}_floor"],
                reference=ns[f"{what}_json"],
                note="floor: numpy deltas and zstd, nothing else",
            )
        )


class _Bare:
    """What nobody can do without: deltas of the columns as 32-bit integers, zstd over them; and back."""

    def __init__(self, samples: Samples) -> None:
        numbers = []
        for one in samples.columns:
            if one.kind is Kind.TEXT:
                continue
            scale = 10 ** max(one.decimals, 3 if one.decimals < 0 else 0)
            numbers.append(np.rint(one.values.astype(np.float64) * scale).astype(np.int64) % 2**31)
        self._matrix = np.stack(numbers).astype(np.int32)
        self._data = self.encode()
        self._decompress = wire_codecs.decompressor().decompress

    def encode(self) -> bytes:
        """The bytes."""
        return wire_codecs.zstd(np.diff(self._matrix, axis=1, prepend=np.int32(0)).astype(np.int32).tobytes())

    def decode(self) -> object:
        """The matrix again."""
        flat = np.frombuffer(self._decompress(self._data), dtype=np.int32)
        return np.cumsum(flat.reshape(self._matrix.shape), axis=1)


def _best_ns(call: Callable[[], object], repeats: int) -> float:
    """The median time of a call, ns: a shared machine makes the mean a lottery."""
    times = []
    for _ in range(repeats):
        began_ns = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - began_ns)
    return float(np.median(times))
