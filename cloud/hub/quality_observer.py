"""What the hub sees of the readings as they pass: how good they are, how late, and when each stream last spoke.

Called for every batch, so a call only keeps the columns; they are counted some thousands at a time. Bounded: counts
that cannot be handed to the database for long are given up, oldest hour first, and counted as `dropped`.
"""

import threading

import numpy as np

from cloud.hub import quality_figures as codes
from cloud.hub.passing import Passed
from cloud.ledger_report import HOUR_NS
from contract.readings import Bytes, Ints

CHUNK = 65_536  # readings that are counted at once: about 10 ms
MAX_COUNTS = 4_000_000  # 96 MB
_MERGE_AFTER = 16


class Observer:
    """Counts readings by stream and hour of measurement. Any thread may call; drained by one.

    keep_hours: older readings are not counted by hour, as their hour is gone; `too_old` says how many there were.
    """

    def __init__(self, *, keep_hours: int) -> None:
        self.too_old = 0
        self.dropped = 0
        self.position = ""
        self._counted = -1
        self._keep_hours = keep_hours
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Ints, Bytes, int]] = []
        self._n_waiting = 0
        self._hours: dict[int, list[Ints]] = {}
        self._n_counts = 0
        self._measured_ns: Ints = np.zeros(1024, dtype=np.int64)
        self._heard_ns: Ints = np.zeros(1024, dtype=np.int64)

    def observe(self, number: int, time_ns: Ints, status: Bytes, seen_ns: int) -> None:
        """Readings of the stream `number`: when measured, their status bytes, and when the cloud received them."""
        with self._lock:
            self._waiting.append((number, time_ns, status, seen_ns))
            self._n_waiting += len(time_ns)
            if self._n_waiting >= CHUNK or len(self._waiting) >= CHUNK:
                self._count()

    def resume(self, position: str) -> None:
        """What was counted up to this place before the process began: frames up to it are passed over by `take`."""
        with self._lock:
            self.position = position
            self._counted = int(position) if position.isdecimal() else -1

    def take(self, passed: Passed) -> None:
        """A frame of the feed passed."""
        if passed.id <= self._counted:
            return
        for column in passed.columns:
            self.observe(column.number, column.times, column.statuses, passed.seen_ns)
        self.reached(str(passed.id))

    def reached(self, position: str) -> None:
        """Everything up to this place of the feed was observed. It is kept with the counts: see Quality.position."""
        with self._lock:
            self.position = position

    def note(self, number: int, time_ns: int, seen_ns: int) -> None:
        """A stream's newest reading as it was known before this process observed anything."""
        self.note_all(np.array([number]), np.array([time_ns]), np.array([seen_ns]))

    def note_all(self, numbers: Ints, time_ns: Ints, seen_ns: Ints) -> None:
        """The newest samples of some streams, as somebody else knows them; columns, each number once."""
        if not len(numbers):
            return
        with self._lock:
            self._grow(int(numbers.max()))
            self._measured_ns[numbers] = np.maximum(self._measured_ns[numbers], time_ns)
            self._heard_ns[numbers] = np.maximum(self._heard_ns[numbers], seen_ns)

    def newest(self, size: int) -> tuple[Ints, Ints]:
        """(measured, heard) of the newest reading by stream number, ns, 0: never (size,)."""
        with self._lock:
            self._count()
            self._grow(size)
            return self._measured_ns[:size].copy(), self._heard_ns[:size].copy()

    def newest_ns(self, number: int) -> int:
        """When the newest reading of a stream was measured, 0: never; up to CHUNK readings late."""
        return int(self._measured_ns[number]) if number < len(self._measured_ns) else 0

    def drain(self) -> tuple[dict[int, Ints], str]:
        """The tallies by hour since the last time, and the place of the feed that they reach."""
        with self._lock:
            self._count()
            hours = {hour: codes.merge(parts) for hour, parts in self._hours.items()}
            self._hours, self._n_counts = {}, 0
            return hours, self.position

    def give_back(self, hours: dict[int, Ints]) -> None:
        """Take back what `drain` gave, as the database did not take it."""
        with self._lock:
            for hour, tally in hours.items():
                self._add(hour, tally)

    def _count(self) -> None:
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if not waiting:
            return
        lengths = np.array([len(times) for _, times, _, _ in waiting])
        numbers = np.repeat(np.array([number for number, _, _, _ in waiting], dtype=np.int64), lengths)
        seen = np.repeat(np.array([seen_ns for _, _, _, seen_ns in waiting], dtype=np.int64), lengths)
        times = np.concatenate([times for _, times, _, _ in waiting])
        status = np.concatenate([status for _, _, status, _ in waiting])
        present = status < 0xC0
        numbers, seen, times, status = numbers[present], seen[present], times[present], status[present]
        if not len(numbers):
            return
        past = np.minimum(times, seen)  # a clock that is ahead makes no data of the future
        self._grow(int(numbers.max()))
        np.maximum.at(self._measured_ns, numbers, past)
        np.maximum.at(self._heard_ns, numbers, seen)
        hours = past // HOUR_NS
        recent = hours > seen // HOUR_NS - self._keep_hours
        self.too_old += int(np.count_nonzero(~recent))
        latencies = codes.latency_codes(seen - times)
        for hour in np.unique(hours[recent]).tolist():
            mine = hours == hour
            ones = np.ones(np.count_nonzero(mine), dtype=np.int64)
            by_status = np.column_stack((numbers[mine], status[mine].astype(np.int64), ones))
            self._add(hour, codes.merge([by_status, np.column_stack((numbers[mine], latencies[mine], ones))]))

    def _add(self, hour: int, tally: Ints) -> None:
        parts = self._hours.setdefault(hour, [])
        parts.append(tally)
        self._n_counts += len(tally)
        if len(parts) >= _MERGE_AFTER:
            merged = codes.merge(parts)
            self._n_counts += len(merged) - sum(len(part) for part in parts)
            self._hours[hour] = [merged]
        while self._n_counts > MAX_COUNTS and len(self._hours) > 1:
            gone = self._hours.pop(min(self._hours))
            self._n_counts -= sum(len(part) for part in gone)
            self.dropped += sum(int(part[part[:, 1] < 0xC0, 2].sum()) for part in gone)

    def _grow(self, number: int) -> None:
        if number >= len(self._measured_ns):
            more = np.zeros(max(number + 1, 2 * len(self._measured_ns)) - len(self._measured_ns), dtype=np.int64)
            self._measured_ns = np.concatenate((self._measured_ns, more))
            self._heard_ns = np.concatenate((self._heard_ns, more))
