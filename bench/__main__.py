"""Benchmarks, each with its floor and its Python reference measured in the same run.

python -m bench [NAME ...] [--json] [--quick] [--record FILE]
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

# The real servers and programs are started by the same helpers as in the tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers import ServerFailed, ServerMissing

from bench.processes import BenchFailed
from bench.report import Report, record

NAMES = {
    "wire": "payload bytes per reading, lossless, and the time to write and read them",
    "outbox": "durable appends, beside what the disk itself can do",
    "gateway": "10 Modbus TCP units x 100 registers, acknowledged by a real collector",
    "collector": "frames through mosquitto into real databases, beside the same lines posted ready-made",
    "latency": "from the register's read to the point in the database, 1,000 readings a second",
    "profiles": "bytes on the uplink's socket, by profile, for a typical site",
    "scale": "many gateways, each with a connection of its own",
}
"""What runs when nobody names anything: less than a quarter of an hour."""
VISION = {
    "vision-counting": "layer A: counting on true boxes with controlled noise, beside other trackers",
    "vision-decoding": "layer B: every decode head beside an independent slow decoder",
    "vision-street": "layer C: drawn streets as H.264, through detector, tracker and counter",
    "vision-health": "how soon a bad camera is found, and how often a good one is accused",
    "vision-speed": "what a camera costs beside bare decoding and inference, and how late its counts are",
}
HUB = {"hub": "100,000 streams, 1,000 live clients, 50 history queries at once, on one hub"}
GROUPS = {"vision": list(VISION)}
ALL = NAMES | VISION | HUB


def main() -> int:
    """Run what was asked for; 0 also when targets are missed: that is a finding, not a failure. 1 when one broke."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; hub; vision, or {', '.join(VISION)}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="shorter runs: noisier figures, to try a change")
    parser.add_argument("--record", type=Path, metavar="FILE", help="renew the tables of this page, between its marks")
    options = parser.parse_args()
    chosen = [name for given in options.names or NAMES for name in GROUPS.get(given, [given])]
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join([*ALL, *GROUPS])}")
    report = Report(sys.stdout, options.json)
    broken = []
    began_s = time.monotonic()
    for name in chosen:
        before = len(report.figures)
        if not _run(name, report, quick=options.quick):
            broken.append(name)
        elif options.record is not None:
            page = options.record.read_text(encoding="utf-8")
            options.record.write_text(record(page, name, report.figures[before:]), encoding="utf-8")
    missed = report.missed()
    if not options.json:
        print(f"\nall: {time.monotonic() - began_s:.0f} s")
        print(f"missed: {', '.join(missed) or 'nothing'}")
    return 1 if broken else 0


def _run(name: str, report: Report, *, quick: bool) -> bool:
    report.begin(name, ALL[name])
    began_s = time.monotonic()
    try:
        importlib.import_module(f"bench.{name.replace('-', '_')}").run(report, quick=quick)
    except (BenchFailed, ServerFailed, ServerMissing, AssertionError, OSError) as error:
        print(f"{name}: broke: {error}", file=sys.stderr)
        return False
    finally:
        report.end(name, time.monotonic() - began_s)
    return True


if __name__ == "__main__":
    sys.exit(main())
