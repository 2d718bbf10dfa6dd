"""What goes wrong, when: by script, at random (seeded), or told at run time.

A fault is either in the value (the device answers properly, but not the truth) or on the wire. Value faults reach the
truth file as they were served, because the truth file says what was on the wire, not what the world was like.

kind          in        what a client sees
timeout       wire      no answer
exception     wire      a Modbus exception (code, 4 unless told)
crc_error     wire      a wrong checksum; Modbus TCP has none, so there the protocol identifier is wrong
garbage       wire      random bytes instead of the answer
late_reply    wire      the right answer, delay_s too late
foreign_reply wire      a proper answer with another transaction id (TCP) or unit id (RTU)
partial       wire      the first half of the answer
disconnect    port      connections closed and refused; a pty vanishes and comes back; all devices of the port
frozen        value     the last value again and again
out_of_range  value     far above the sensor's range
drift         value     wanders off by `drift` of the range per second
nan           value     NaN; in an integer, the customary "not available"

A camera has disconnect, frozen, and these, in three grades (see street/conditions.py and street/camera_port.py):

night rain fog blur droplet occluded shake exposure black covered moved       the picture
packet_loss   stream    packets are lost
stall         stream    nothing more comes, in the middle of a frame; the connection stays
resize        stream    the picture has fewer pixels from now on
wrong_clock   stream    the stream's time runs fast, or is off
"""

import logging
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """The kinds of faults; see the table above."""

    TIMEOUT = "timeout"
    EXCEPTION = "exception"
    CRC_ERROR = "crc_error"
    GARBAGE = "garbage"
    LATE_REPLY = "late_reply"
    FOREIGN_REPLY = "foreign_reply"
    PARTIAL = "partial"
    DISCONNECT = "disconnect"
    FROZEN = "frozen"
    OUT_OF_RANGE = "out_of_range"
    DRIFT = "drift"
    NAN = "nan"
    NIGHT = "night"
    RAIN = "rain"
    FOG = "fog"
    BLUR = "blur"
    DROPLET = "droplet"
    OCCLUDED = "occluded"
    SHAKE = "shake"
    EXPOSURE = "exposure"
    BLACK = "black"
    COVERED = "covered"
    MOVED = "moved"
    PACKET_LOSS = "packet_loss"
    STALL = "stall"
    RESIZE = "resize"
    WRONG_CLOCK = "wrong_clock"


VALUE_KINDS = frozenset({Kind.FROZEN, Kind.OUT_OF_RANGE, Kind.DRIFT, Kind.NAN})
_CAMERA_ONLY = frozenset(
    {
        Kind.NIGHT, Kind.RAIN, Kind.FOG, Kind.BLUR, Kind.DROPLET, Kind.OCCLUDED, Kind.SHAKE, Kind.EXPOSURE, Kind.BLACK,
        Kind.COVERED, Kind.MOVED, Kind.PACKET_LOSS, Kind.STALL, Kind.RESIZE, Kind.WRONG_CLOCK,
    }
)  # fmt: skip
MODBUS_KINDS = frozenset(Kind) - _CAMERA_ONLY
SERIAL_KINDS = MODBUS_KINDS - {Kind.EXCEPTION, Kind.FOREIGN_REPLY}
CAMERA_KINDS = _CAMERA_ONLY | {Kind.FROZEN, Kind.DISCONNECT}


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of misbehaviour. code: the Modbus exception. drift: share of a sensor's range per second.

    grade: 1 slight, 2, 3 severe, where a kind has grades.
    """

    kind: Kind
    code: int = 4
    delay_s: float = 2.0
    drift: float = 0.01
    grade: int = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault at a time (seconds after the start) for a while."""

    fault: Fault
    at_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A fault that comes at random, `per_hour` times on average, for a uniform time between the two."""

    fault: Fault
    per_hour: float
    seconds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chance:
    """A wire fault that spoils each answer with a probability."""

    fault: Fault
    probability: float


Plan = Planned | Rate | Chance


@dataclass(slots=True)
class Active:
    """A fault that is on. Times are seconds after the start."""

    fault: Fault
    since_s: float
    until_s: float


@dataclass(slots=True)
class _Source:
    """A planned or random fault that waits for its time."""

    fault: Fault
    next_s: float
    seconds: Callable[[], float]
    again: Callable[[], float] | None


@dataclass(slots=True)
class Faults:
    """The faults of one device, over time. Times are seconds after the start and never run backwards."""

    device: str
    seed: int = 0
    plans: Iterable[Plan] = ()
    begun: dict[Kind, int] = field(default_factory=dict)
    """How often each kind has begun: what happened is counted."""
    chance: random.Random = field(init=False)
    """Decides by chance, seeded by the device."""
    _active: list[Active] = field(init=False, default_factory=list)
    _sources: list[_Source] = field(init=False, default_factory=list)
    _chances: list[Chance] = field(init=False, default_factory=list)
    _change_s: float = field(init=False, default=math.inf)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed}/{self.device}/answers")
        for number, plan in enumerate(self.plans):
            match plan:
                case Chance():
                    self._chances.append(plan)
                case Planned():
                    self._sources.append(_Source(plan.fault, plan.at_s, _always(plan.seconds), None))
                case Rate():
                    self._sources.append(self._random_source(plan, number))
        self._plan_next_change()

    def _random_source(self, rate: Rate, number: int) -> _Source:
        # A generator of its own: what one fault does never shifts when another comes.
        own = random.Random(f"{self.seed}/{self.device}/{rate.fault.kind}/{number}")

        def wait() -> float:
            return own.expovariate(rate.per_hour / 3600)

        return _Source(rate.fault, wait(), lambda: own.uniform(*rate.seconds), wait)

    def inject(self, fault: Fault, now_s: float, seconds: float = math.inf) -> None:
        """Begin a fault now, for a while or until it is cleared."""
        self._advance(now_s)
        self._begin(fault, now_s, seconds)
        self._plan_next_change()

    def clear(self, now_s: float) -> None:
        """End every fault that is on; plans stay."""
        self._advance(now_s)
        for active in self._active:
            active.until_s = now_s
        self._change_s = now_s

    def active(self, now_s: float) -> list[Active]:
        """The faults that are on, oldest first."""
        if now_s >= self._change_s:
            self._advance(now_s)
        return self._active

    def down(self, now_s: float) -> bool:
        """Whether the port is to be away."""
        return any(active.fault.kind is Kind.DISCONNECT for active in self.active(now_s))

    def wire(self, now_s: float) -> Fault | None:
        """What to do to the answer that is about to leave: the oldest wire fault, or one by chance, or nothing."""
        for active in self.active(now_s):
            if active.fault.kind not in VALUE_KINDS and active.fault.kind is not Kind.DISCONNECT:
                return active.fault
        for chance in self._chances:
            if self.chance.random() < chance.probability:
                self.begun[chance.fault.kind] = self.begun.get(chance.fault.kind, 0) + 1
                return chance.fault
        return None

    def _begin(self, fault: Fault, since_s: float, seconds: float) -> None:
        self._active.append(Active(fault, since_s, since_s + seconds))
        self.begun[fault.kind] = self.begun.get(fault.kind, 0) + 1
        log.info("%s: fault %s begins, for %.1f s", self.device, fault.kind, seconds)

    def _advance(self, now_s: float) -> None:
        for source in self._sources:
            while source.next_s <= now_s:
                seconds = source.seconds()
                self._begin(source.fault, source.next_s, seconds)
                source.next_s = source.next_s + seconds + source.again() if source.again else math.inf
        for active in self._active:
            if active.until_s <= now_s:
                log.info("%s: fault %s ends", self.device, active.fault.kind)
        self._active = [active for active in self._active if active.until_s > now_s]
        self._plan_next_change()

    def _plan_next_change(self) -> None:
        times = [source.next_s for source in self._sources] + [active.until_s for active in self._active]
        self._change_s = min(times, default=math.inf)


def _always(seconds: float) -> Callable[[], float]:
    return lambda: seconds
