"""Frames under way: sent, and not yet acknowledged by the database.

A window of frames keeps the acknowledgement's way there and back filled without asking for memory anywhere. Patience
begins when the broker has a frame (PUBACK): what still waits in a slow modem is not late, and sending it again would
choke the line for good. While nothing at all is acknowledged patience doubles, because then nobody takes and every
copy is one more message in somebody's queue; the first acknowledgement ends that.

Times are seconds of any steady clock, handed in.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass

PATIENCE_MAX_S = 60.0
# What the broker has not confirmed yet: enough for 1 MB/s over 250 ms, and still under keepalive on a bad line.
UNCONFIRMED_BYTES = 256 * 1024
_MOST_DOUBLINGS = 16


class Backoff:
    """How long to wait before the next attempt: doubling to `max_s`, with full jitter.

    A thousand gateways that lost one broker must not come back in one second.
    """

    def __init__(self, max_s: float, *, first_s: float = 0.5, least_s: float = 0.1) -> None:
        self._max_s = max_s
        self._first_s = min(first_s, max_s)
        self._least_s = min(least_s, max_s)
        self._wait_s = self._first_s
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def next_s(self) -> float:
        """Seconds to wait now; the next answer may be twice as long."""
        wait_s = self._random.uniform(self._least_s, self._wait_s)
        self._wait_s = min(self._wait_s * 2, self._max_s)
        return wait_s

    def reset(self) -> None:
        """It worked for a while: begin again with short waits."""
        self._wait_s = self._first_s


@dataclass(slots=True)
class Flight:
    """One frame under way. `deadline_s`: None until the broker confirmed it."""

    boot: int
    epoch: int
    deadline_s: float | None = None


class Flights:
    """The window. A frame enters with `sent` and leaves with `landed`, `late`, `drop` or `clear`."""

    def __init__(self, window: int, ack_timeout_s: float) -> None:
        self._window = window
        self._ack_timeout_s = ack_timeout_s
        self._flights: dict[int, Flight] = {}
        self._unconfirmed_bytes = 0
        self._doublings = 0
        self._doubled_s = 0.0

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._flights

    def room(self, *, backlog: bool) -> bool:
        """Whether another frame may leave. The backlog has three quarters of the window, so live frames never wait."""
        most = max(1, self._window * 3 // 4) if backlog else self._window
        return len(self._flights) < most and self._unconfirmed_bytes < UNCONFIRMED_BYTES

    @property
    def patience_s(self) -> float:
        """Seconds from the broker's confirmation until a frame counts as late."""
        longest_s = max(PATIENCE_MAX_S, self._ack_timeout_s)
        return float(min(self._ack_timeout_s * 2**self._doublings, longest_s))

    def sent(self, sequence: int, boot: int, epoch: int, size: int) -> None:
        """A frame of `size` bytes is handed to MQTT; `confirmed` must follow once for it."""
        self._flights[sequence] = Flight(boot, epoch)
        self._unconfirmed_bytes += size

    def confirmed(self, sequence: int, size: int, now_s: float) -> None:
        """The broker has it."""
        self._unconfirmed_bytes -= size
        flight = self._flights.get(sequence)
        if flight is not None:
            flight.deadline_s = now_s + self.patience_s

    def late(self, now_s: float) -> list[int]:
        """Take out and return the frames that nobody acknowledged in time."""
        found = [
            number
            for number, flight in self._flights.items()
            if flight.deadline_s is not None and flight.deadline_s < now_s
        ]
        for number in found:
            del self._flights[number]
        if found and now_s >= self._doubled_s + self.patience_s:
            self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
            self._doubled_s = now_s
        return found

    def landed(self, boot: int, ranges: Sequence[tuple[int, int]], now_s: float) -> int:
        """Take out what the boot's acknowledgement names in its inclusive ranges; how many those were.

        Costs by the window, and by its logarithm for each range, whatever the ranges claim.
        """
        numbers = sorted(number for number, flight in self._flights.items() if flight.boot == boot)
        before = len(numbers)
        for low, high in ranges:
            begin, end = bisect_left(numbers, low), bisect_right(numbers, high)
            self.drop(numbers[begin:end])
            del numbers[begin:end]
            if not numbers:
                break
        count = before - len(numbers)
        if count:
            self._heard(now_s)
        return count

    def _heard(self, now_s: float) -> None:
        """Somebody takes again: what waits with the patience of the silence is asked for sooner."""
        if self._doublings:
            self._doublings = 0
            for flight in self._flights.values():
                if flight.deadline_s is not None:
                    flight.deadline_s = min(flight.deadline_s, now_s + self._ack_timeout_s)

    def of_epoch(self, boot: int, epoch: int) -> list[int]:
        """The frames of a boot that refer to a catalogue."""
        return [number for number, one in self._flights.items() if (one.boot, one.epoch) == (boot, epoch)]

    def drop(self, sequences: Collection[int]) -> None:
        """These are not under way any more, for whatever reason."""
        for sequence in sequences:
            self._flights.pop(sequence, None)

    def clear(self) -> None:
        """The connection is gone, and everything under way with it."""
        self._flights.clear()
        self._unconfirmed_bytes = 0


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive ranges in order, without overlap: what is named twice is looked up once."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
