"""A gateway's half of the contract, scripted: births, and frames with honest books."""

import numpy as np

from contract import frame
from contract.catalogue import Area, Birth, Device, Stream
from contract.frame import Counters, Frame, Gap, Header
from contract.readings import ABSENT, GOOD, Kind, Reason, Table
from contract.topics import GatewayPath

PATH = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-1")
START_NS = 1_790_000_000_000_000_000
TICK_NS = 1_000_000_000


def make_birth(
    n_streams: int = 2,
    *,
    path: GatewayPath = PATH,
    interval_s: float = 1.0,
    scheduled: bool = True,
    software: str = "",
) -> Birth:
    """`n_streams` float streams of one device."""
    streams = tuple(
        Stream(
            id=number,
            name=f"s{number}",
            quantity="temperature",
            unit="Cel",
            type=Kind.FLOAT,
            resolution=0.1,
            interval_s=interval_s,
            scheduled=scheduled,
        )
        for number in range(n_streams)
    )
    return Birth(
        gateway=path.gateway,
        area=Area(city=path.city, district=path.district, street=path.street),
        software=software,
        devices=(Device(name="meter", streams=streams),),
    )


class ScriptedGateway:
    """Makes the frames of one outbox: rising sequences, cumulative counters since boot."""

    def __init__(self, birth: Birth, *, boot: int = 1, sequence: int = 1, start_ns: int = START_NS) -> None:
        self.birth = birth
        self.boot = boot
        self.sequence = sequence
        self.now_ns = start_ns
        self.n_streams = sum(len(device.streams) for device in birth.devices)
        self.due = np.zeros(self.n_streams, dtype=np.int64)

    def reboot(self, boot: int) -> None:
        """A new process: counters start again, sequences go on."""
        self.boot = boot
        self.due[:] = 0

    def frame(self, rows: int = 3, *, suppressed: int = 0, thinned: int = 0, missed: int = 0) -> Frame:
        """`rows` scans of every stream, after `missed` ones that timed out."""
        streams = np.arange(self.n_streams, dtype=np.int32)
        gaps: tuple[Gap, ...] = ()
        if missed:
            first_ns = self.now_ns + TICK_NS
            self.now_ns += missed * TICK_NS
            gaps = (Gap(tuple(streams.tolist()), first_ns, self.now_ns, missed, Reason.TIMEOUT),)
        self.now_ns += (suppressed + thinned) * TICK_NS
        times = self.now_ns + TICK_NS * np.arange(1, rows + 1, dtype=np.int64)
        self.now_ns += rows * TICK_NS
        values = np.round(20 + 0.1 * np.arange(rows * self.n_streams, dtype=np.float64), 1)
        table = Table(
            Kind.FLOAT,
            streams,
            times,
            values.reshape(rows, self.n_streams),
            np.full((rows, self.n_streams), GOOD, dtype=np.uint8),
            np.ones(self.n_streams, dtype=np.int8),
        )
        self.due += rows + missed + suppressed + thinned

        def each(number: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
            return np.full(self.n_streams, number, dtype=np.int64)

        counters = Counters(streams, self.due.copy(), each(suppressed), each(thinned), each(self.now_ns))
        header = Header(self.boot, self.sequence, self.birth.epoch, self.now_ns)
        self.sequence += 1
        return Frame(header, (table,) if rows else (), gaps, counters)

    def payload(self, rows: int = 3, **what: int) -> bytes:
        """The same as bytes."""
        return frame.encode(self.frame(rows, **what))


def absent(table: Table, row: int, column: int) -> Table:
    """`table` without one reading."""
    status = table.status.copy()
    status[row, column] = ABSENT
    return Table(table.kind, table.streams, table.times, table.values, status, table.decimals)
