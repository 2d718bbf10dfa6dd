"""A stream's own clock, laid on ours and checked against it.

Frames arrive late by what encoder, network and decoder held them up, and that changes from frame to frame; speeds
made of arrival times inherit it. The stream's clock says how far apart frames were taken. Its offset to ours is the
smallest difference seen lately: the frame that was held up least. A clock that cannot be trusted (another speed, a
jump) is reported, and arrival times are used instead. Pure; times are ns.
"""

from collections import deque

SECOND = 1_000_000_000
BUCKETS = 10  # seconds over which the smallest offset and the speed are looked for
MIN_BUCKETS = 5  # with 20 ms of jitter the speed is then known to half a percent
MAX_RATE_ERROR = 0.02  # quartz stays a thousand times below that
JUMP_NS = 1 * SECOND
SETTLE_NS = 5 * SECOND  # FFmpeg renumbers the first frames of a connection, and cameras send what they had stored
WRONG_AFTER_JUMP_NS = 60 * SECOND
MAX_DELAY_NS = 2 * SECOND


class StreamTime:
    """The clock of one connection.

    rate: seconds of the stream's clock in one of ours. jumps: how often it jumped by more than a second.
    """

    def __init__(self) -> None:
        self.rate = 1.0
        self.jumps = 0
        self._began_ns = 0
        self._jumped_ns = -WRONG_AFTER_JUMP_NS
        self._last_ns = 0
        self._last_stream_ns = 0
        self._floor: int | None = None
        self._buckets: deque[tuple[int, int]] = deque(maxlen=BUCKETS + 1)  # when it began, smallest offset in it

    def when(self, arrived_ns: int, stream_ns: int) -> int:
        """When a frame was taken, on our clock: never later than it arrived, later than the one before."""
        taken_ns = arrived_ns
        if stream_ns > 0:
            self._watch(arrived_ns, stream_ns)
            if self._floor is not None and not self.wrong(arrived_ns):
                taken_ns = min(arrived_ns, max(stream_ns + self._floor, arrived_ns - MAX_DELAY_NS))
        self._last_ns = min(arrived_ns, max(taken_ns, self._last_ns + 1))
        return self._last_ns

    @property
    def known(self) -> bool:
        """It has been watched for long enough to be judged."""
        return len(self._buckets) > MIN_BUCKETS

    def wrong(self, now_ns: int) -> bool:
        """It runs at another speed than ours, or jumped in the last minute."""
        return abs(self.rate - 1.0) > MAX_RATE_ERROR or now_ns - self._jumped_ns < WRONG_AFTER_JUMP_NS

    def _watch(self, arrived_ns: int, stream_ns: int) -> None:
        self._began_ns = self._began_ns or arrived_ns
        settled = arrived_ns - self._began_ns >= SETTLE_NS
        offset = arrived_ns - stream_ns
        back = stream_ns < self._last_stream_ns
        self._last_stream_ns = stream_ns
        # From the future: no network makes a frame early. An offset that stays larger shows when old buckets go.
        ahead = self._floor is not None and offset < self._floor - JUMP_NS
        if back or ahead:
            if settled:
                self._jumped(arrived_ns)
            self._buckets.clear()
            self.rate = 1.0
        floor_before = None if back or ahead else self._floor
        self._keep(arrived_ns, offset)
        self._floor = min(smallest for _, smallest in self._buckets)
        if floor_before is not None and self._floor > floor_before + JUMP_NS:
            self._jumped(arrived_ns)

    def _keep(self, arrived_ns: int, offset: int) -> None:
        """Put the offset into its second, and measure the speed over the seconds that are complete."""
        while self._buckets and arrived_ns - self._buckets[0][0] > (BUCKETS + 1) * SECOND:
            self._buckets.popleft()
        if self._buckets and arrived_ns - self._buckets[-1][0] < SECOND:
            began_ns, smallest = self._buckets[-1]
            self._buckets[-1] = (began_ns, min(smallest, offset))
            return
        if len(self._buckets) >= MIN_BUCKETS:
            (first_ns, first), (last_ns, last) = self._buckets[0], self._buckets[-1]
            self.rate = 1.0 - (last - first) / (last_ns - first_ns)
        self._buckets.append((arrived_ns, offset))

    def _jumped(self, now_ns: int) -> None:
        self.jumps += 1
        self._jumped_ns = now_ns
