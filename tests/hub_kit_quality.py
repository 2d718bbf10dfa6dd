"""A city in memory for tests of figures and alerts: a catalogue that can be changed, and the newest readings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloud.hub.entries import Entry
from cloud.hub.parts import Sample
from contract.catalogue import Grade
from contract.readings import Kind, Quality, Reason, Value
from contract.topics import GatewayPath

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def make_entry(number: int, path: GatewayPath, stream: str = "s0", *, device: str = "meter", **more: Any) -> Entry:
    """A float stream of the Water department, one reading a second."""
    known: dict[str, Any] = {
        "quantity": "level", "unit": "m", "kind": Kind.FLOAT, "interval_s": 1.0, "since_ns": 0, "owner": "Water",
        "contact": "water@city.example", "grade": Grade.OPEN,
    }  # fmt: skip
    return Entry(number=number, version=1, path=path, device=device, stream=stream, **(known | more))


@dataclass
class FakeCatalogue:
    """Entries as the hub's catalogue gives them."""

    entries: list[Entry] = field(default_factory=list)
    version: int = 1

    def put(self, *entries: Entry) -> None:
        mine = {entry.number: entry for entry in self.entries} | {entry.number: entry for entry in entries}
        self.entries = [mine[number] for number in sorted(mine)]
        self.version += 1

    def get(self, stream_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.id == stream_id), None)

    def by_number(self, number: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.number == number), None)

    def by_key(self, key: tuple[Any, str, str]) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    def all(self) -> Sequence[Entry]:
        return self.entries

    async def versions(self, number: int) -> list[Entry]:
        return [entry for entry in self.entries if entry.number == number]


@dataclass
class FakeNewest:
    """Newest readings by number."""

    samples: dict[int, Sample] = field(default_factory=dict)

    def get(self, number: int) -> Sample | None:
        return self.samples.get(number)

    def put(self, number: int, value: Value, time_ns: int, quality: Quality = Quality.GOOD) -> None:
        self.samples[number] = Sample(time_ns, value, quality, Reason.NONE, time_ns)


@dataclass
class FakeTrail:
    """The audit's lines."""

    lines: list[tuple[str, str, str, dict[str, Any]]] = field(default_factory=list)

    async def record(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.lines.append((who, action, subject, dict(detail)))


class FakeClock:
    """A wall clock that a test moves."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


def city(paths: Iterable[GatewayPath], streams: int, **more: Any) -> list[Entry]:
    """`streams` streams on each gateway, numbered from 1."""
    made: list[Entry] = []
    for path in paths:
        made += [make_entry(len(made) + at + 1, path, f"s{at}", **more) for at in range(streams)]
    return made


def ended(entry: Entry, until_ns: int) -> Entry:
    """The entry after it left its gateway's birth."""
    return replace(entry, until_ns=until_ns)
