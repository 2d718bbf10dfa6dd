"""Broken hardware of every kind on every kind of port, at once, against real processes.

One run of about a minute; everything asserted is a number that somebody could get wrong: no value that was not served,
no served value lost, each gap for the reason it has, every device back, and nobody else any worse for it.
"""

import json
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hardware_judge import (
    SECOND,
    Explained,
    Served,
    Spoiler,
    Stored,
    Window,
    Witness,
    lost_responses,
    served_by,
    stored_in,
    wrong_values,
)
from programs import Program, ask
from servers import Mosquitto

from contract.readings import Quality, Reason, reason_of, status
from hardware_sim import truth
from hardware_sim.registers import Encoding
from hardware_sim.registers import decode as register_value

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
CASES = Path(__file__).resolve().parent.parent / "cases/hardware-faults"
SEED = 20261122
FAULT_S = 1.5
VALUE_S = 2.75
PAUSE_S = 2.75
BACK_S = 2.5  # from the end of a fault to the next reading: backoff at most 1 s, three timeouts of a late RTU answer

COUNTER_REGISTERS = 10  # that one read of v0, v1 and v4 takes
PORTS = {
    "tcp": ("meter-1", "count-1", "mate-1"),
    "rtu-tcp": ("climate-1", "count-2", "mate-2"),
    "rtu": ("climate-2", "count-3", "mate-3"),
}
ALONE = ("dust-1", "weather-1", "text-1", "polled-1")
QUIET = ("quiet-1", "quiet-2")
WIRE = ("timeout", "exception", "crc_error", "garbage", "late_reply", "foreign_reply", "partial", "disconnect")
VALUE = ("frozen", "out_of_range", "drift", "nan")
SERIAL = tuple(kind for kind in (*WIRE, *VALUE) if kind not in {"exception", "foreign_reply"})
MORE: dict[str, dict[str, float]] = {"late_reply": {"delay_s": 0.8}, "drift": {"drift": 3.0}}
SILENT = {Reason.SILENT}
REASONS = {
    "timeout": {Reason.TIMEOUT},
    "exception": {Reason.REFUSED},
    "exception 2": {Reason.NO_REGISTER},
    "crc_error": {Reason.GARBAGE},
    "garbage": {Reason.GARBAGE},
    "foreign_reply": {Reason.GARBAGE},
    "partial": {Reason.GARBAGE},
    "late_reply": {Reason.TIMEOUT},
    "disconnect": {Reason.DISCONNECTED},
}


@dataclass(frozen=True)
class Run:
    """What was left behind by one run."""

    windows: list[Window]
    gaps: list[Explained]
    stored: dict[str, list[Stored]]
    truth: Path
    ledger: dict[str, Any]
    gateway_log: str

    def of(self, device: str) -> list[Window]:
        """The faults that hit a device: its own, and those that take its port away."""
        port = next((names for names in PORTS.values() if device in names), (device,))
        return [w for w in self.windows if w.device == device or (w.device in port and w.kind == "disconnect")]

    def hit(self, device: str, time_ns: int, *, before_s: float = 0.5, after_s: float = BACK_S) -> bool:
        """Whether a fault of the wire excuses that moment."""
        return any(
            window.covers(time_ns, before_s=before_s, after_s=after_s)
            for window in self.of(device)
            if window.kind not in VALUE
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole street is broken for 45 seconds, then everything is stopped."""
    folder = tmp_path_factory.mktemp("faults")
    simulator = Program(
        folder,
        "simulator",
        *("weinao-sim", "run", str(CASES / "scenario.yaml"), "--truth", "truth.tsv", "--control", "sim.sock"),
        *("--ready-file", "sim.json", "--run-dir", "run"),
        ready=folder / "sim.json",
    )
    collector = Program(
        folder,
        "collector",
        *("weinao-cloud", "collect", "cloud.yaml", "--ready-file", "cloud.ready"),
        ready=folder / "cloud.ready",
    )
    gateway = Program(
        folder, "gateway", "weinao-gateway", "run", "gateway.yaml", ready=folder / "outbox" / "status.sock"
    )
    with Mosquitto(folder / "mosquitto") as broker, simulator, Witness(broker.port) as witness:
        configure(folder, broker.port)
        with collector, gateway, Spoiler(folder / "sim.sock") as spoiler:
            time.sleep(2)
            break_everything(spoiler)
            assert gateway.stop() == 0, gateway.words()
            collector.wait_for(
                lambda: ledger(folder)["closes"], 20, f"done with the books: {ledger(folder)['summary']}"
            )
            report = ledger(folder)
            assert collector.stop() == 0, collector.words()
            assert simulator.stop() == 0, simulator.words()
        gaps, stored = witness.gaps(), stored_in(folder / "cloud.duckdb")
        yield Run(spoiler.windows, gaps, stored, folder / "truth.tsv", report, gateway.words(200))


def configure(folder: Path, mqtt_port: int) -> None:
    """Write both configurations; the simulator runs already."""
    ports = json.loads((folder / "sim.json").read_text(encoding="utf-8"))["ports"]
    text = (CASES / "gateway.yaml").read_text(encoding="utf-8").replace("MQTT_PORT", str(mqtt_port))
    for mark, name in (("RTU_TCP_PORT", "rtu-tcp"), ("QUIET_PORT", "quiet-tcp"), ("TCP_PORT", "tcp")):
        text = text.replace(mark, str(ports[name]["port"]))
    (folder / "gateway.yaml").write_text(text, encoding="utf-8")
    (folder / "cloud.yaml").write_text(
        f"mqtt: {{host: 127.0.0.1, port: {mqtt_port}}}\n"
        "store: {kind: embedded, path: cloud.duckdb}\n"
        "data: {directory: cloud}\n",
        encoding="utf-8",
    )


def break_everything(spoiler: Spoiler) -> None:
    """A counter of each Modbus port has every fault of the wire, its neighbour those of the value, serial ones all."""
    chance = random.Random(SEED)
    plans = {counter: chance.sample(WIRE, len(WIRE)) for _, counter, _ in PORTS.values()}
    for sensor, counter, _ in PORTS.values():
        kinds = (*VALUE, "exception") if sensor == "climate-1" else VALUE
        plans[sensor] = chance.sample(kinds, len(kinds))
        plans[sensor].insert(plans[counter].index("disconnect"), "")  # then nothing of it can be seen
    plans |= {device: chance.sample(SERIAL, len(SERIAL)) for device in ALONE}
    begin_s = time.monotonic()
    for turn in range(max(map(len, plans.values()))):
        for device, plan in plans.items():
            kind = plan[turn] if turn < len(plan) else ""
            if kind:
                more = {"code": 2.0} if (device, kind) == ("climate-1", "exception") else MORE.get(kind, {})
                spoiler.inject(device, kind, VALUE_S if kind in VALUE else FAULT_S, **more)
        time.sleep(max(0.0, begin_s + (turn + 1) * (FAULT_S + PAUSE_S) - time.monotonic()))


def ledger(folder: Path) -> dict[str, Any]:
    """What `weinao-cloud ledger --json` says."""
    report: dict[str, Any] = json.loads(ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=folder).stdout)
    return report


def register(table: str, address: int, encoding: Encoding, *, scale: float = 1, decimals: int) -> Callable[..., Any]:
    """How a stream of a Modbus device is read from a response that has all of its registers."""

    def read(response: truth.Response) -> float | None:
        at = address - response.address
        words = response.values[at : at + encoding.words] if at >= 0 else ()
        if response.table != table or len(words) < encoding.words:
            return None
        return round(register_value(words, encoding) * scale, decimals)

    return read


def counted(index: int) -> Callable[[truth.Response], float | None]:
    """A counter's value; a probe for late answers is shorter than a whole read, and is no reading."""

    def read(response: truth.Response) -> float | None:
        if len(response.values) < COUNTER_REGISTERS:
            return None
        value: float = struct.unpack(">f", struct.pack(">HH", *response.values[2 * index : 2 * index + 2]))[0]
        return value

    return read


def named(name: str) -> Callable[[truth.Response], float | None]:
    """A serial device's value."""
    return lambda response: response.named.get(name)


METER = {
    name: register("input", address, Encoding.FLOAT32, decimals=decimals)
    for name, address, decimals in (
        ("voltage_l1", 0, 1),
        ("voltage_l2", 2, 1),
        ("voltage_l3", 4, 1),
        ("frequency", 0x46, 2),
        ("energy_import", 0x48, 2),
    )
}
CLIMATE = {
    "temperature": register("input", 1, Encoding.INT16, scale=0.1, decimals=1),
    "humidity": register("input", 2, Encoding.UINT16, scale=0.1, decimals=1),
}
COUNTER = {f"v{index}": counted(index) for index in (0, 1, 4)}
TEXT = {name: named(name) for name in ("temperature", "humidity")}
PLACES: dict[str, dict[str, Callable[..., Any]]] = {
    "meter-1": METER,
    "climate-1": CLIMATE,
    "climate-2": CLIMATE,
    **{f"{kind}-{number}": COUNTER for kind in ("count", "mate") for number in (1, 2, 3)},
    "quiet-1": COUNTER,
    "quiet-2": TEXT,
    "dust-1": {**{name: named(name) for name in ("pm1", "pm2_5", "pm10")}, "particles_0_3um": named("n0_3")},
    "weather-1": {name: named(name) for name in ("MDA.temperature", "MDA.humidity")},
    "text-1": TEXT,
    "polled-1": TEXT,
}


def readings(run: Run, device: str) -> list[Stored]:
    """The stored readings of the streams that are judged."""
    return [one for one in run.stored.get(device, []) if one.stream in PLACES[device]]


def responses(run: Run, device: str) -> list[Served]:
    """What a device served."""
    return served_by(run.truth, device, PLACES[device])


def test_the_ledger_closes(run: Run) -> None:
    assert run.ledger["totals"]["unexplained"] == 0, run.ledger["summary"]
    assert run.ledger["closes"] is True
    print(run.ledger["summary"])


@pytest.mark.parametrize("device", PLACES)
def test_no_value_is_stored_that_was_not_served(device: str, run: Run) -> None:
    found = readings(run, device)
    assert len(found) >= 30
    assert wrong_values(found, responses(run, device)) == []


@pytest.mark.parametrize("device", PLACES)
def test_every_served_value_is_stored(device: str, run: Run) -> None:
    times = [one.time_ns for one in readings(run, device)]
    # A line without a checksum that is under way when its port is opened is not believed.
    first_ns = min(times) if device in ALONE else 0
    served = [one for one in responses(run, device) if first_ns <= one[0] <= max(times)]
    lost = [one for one in lost_responses(readings(run, device), served) if not excused(run, device, one)]
    assert lost == []


def excused(run: Run, device: str, one: Served) -> bool:
    """A port that is being taken away takes what is in it along; NaN in an NMEA field is no field at all."""
    taken_away = any(w.covers(one[0], before_s=0.5, after_s=BACK_S) for w in run.of(device) if w.kind == "disconnect")
    return taken_away or (device == "weather-1" and None in one[1].values())


@pytest.mark.parametrize("device", [counter for _, counter, _ in PORTS.values()])
def test_no_answer_is_stored_twice(device: str, run: Run) -> None:
    counts = Counter((one.stream, one.value) for one in readings(run, device))
    assert [key for key, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("device", [*(c for _, c, _ in PORTS.values()), "climate-1", *ALONE])
def test_each_gap_has_the_reason_of_its_fault(device: str, run: Run) -> None:
    for gap in (one for one in run.gaps if one.device == device):
        near = [w.kind for w in run.of(device) if w.covers(gap.first_ns, before_s=1.0, after_s=BACK_S)]
        allowed = set().union(*(expected(device, kind) for kind in near))
        assert gap.reason in allowed, f"{gap} near {near}"


def expected(device: str, kind: str) -> set[Reason]:
    """The reasons that a fault may leave behind."""
    reasons = REASONS.get(kind, set())
    if device in {"dust-1", "weather-1", "text-1"} and kind in {"timeout", "late_reply"}:
        return SILENT
    if device == "weather-1" and kind == "nan":
        return {Reason.UNDECODABLE}
    if device in {"polled-1", "text-1"} and kind == "crc_error":
        return {Reason.UNDECODABLE}  # a line has no checksum: its numbers cannot be read
    return reasons


@pytest.mark.parametrize("device", [*(c for _, c, _ in PORTS.values()), "climate-1", *ALONE])
def test_each_fault_leaves_a_gap_that_names_it(device: str, run: Run) -> None:
    for window in (one for one in run.windows if one.device == device and one.kind in REASONS):
        if window.kind == "late_reply" and device in {"dust-1", "weather-1", "text-1"}:
            continue  # what is said unasked is only said later
        reasons = {
            gap.reason
            for gap in run.gaps
            if gap.device == device and window.covers(gap.last_ns, after_s=BACK_S) and gap.count
        }
        assert reasons & expected(device, window.kind), f"{window}: {reasons or 'no gap'}"


@pytest.mark.parametrize("device", [d for d in PLACES if d not in QUIET])
def test_every_device_is_back_soon_after_each_fault(device: str, run: Run) -> None:
    times = [one.time_ns for one in readings(run, device) if one.status == 0]
    for window in run.of(device):
        limit_ns = window.end_ns + round(BACK_S * SECOND)
        assert any(window.end_ns - SECOND // 2 <= at <= limit_ns for at in times), f"{device} after {window}"


@pytest.mark.parametrize("device", QUIET)
def test_other_buses_keep_their_cadence(device: str, run: Run) -> None:
    assert [gap for gap in run.gaps if gap.device == device] == []
    times = sorted({one.time_ns for one in readings(run, device)})
    steps_s = [(later - before) / SECOND for before, later in pairwise(times)]
    assert max(steps_s) < 2, f"the longest step is {max(steps_s)} s"


@pytest.mark.parametrize("device", [mate for *_, mate in PORTS.values()])
def test_a_mate_on_a_broken_bus_loses_nothing_but_the_bus(device: str, run: Run) -> None:
    gaps = [gap for gap in run.gaps if gap.device == device]
    assert {gap.reason for gap in gaps} <= {Reason.DISCONNECTED}, gaps
    assert all(run.hit(device, gap.first_ns) for gap in gaps), gaps


@pytest.mark.parametrize("device", [sensor for sensor, *_ in PORTS.values()])
def test_a_dead_device_costs_its_neighbour_a_timeout_a_backoff_period(device: str, run: Run) -> None:
    victim = next(counter for sensor, counter, _ in PORTS.values() if sensor == device)
    for window in (one for one in run.windows if one.device == victim and one.kind != "disconnect"):
        late = [
            (gap.first_ns, gap.count)
            for gap in run.gaps
            if (gap.device, gap.reason) == (device, Reason.OVERRUN) and window.covers(gap.first_ns, after_s=BACK_S)
        ]
        # It is asked at once, after half a second and after one more; each time half a second long.
        assert sum(count for _, count in set(late)) <= 3, f"{window}: {late}"


BAD_RANGE = status(Quality.BAD, Reason.OUT_OF_RANGE)
BAD_NUMBER = status(Quality.BAD, Reason.NOT_A_NUMBER)
STUCK = status(Quality.UNCERTAIN, Reason.STUCK)


@pytest.mark.parametrize(
    ("device", "stream", "kind", "code"),
    [
        ("meter-1", "voltage_l1", "out_of_range", BAD_RANGE),
        ("meter-1", "voltage_l1", "nan", BAD_NUMBER),
        ("meter-1", "voltage_l1", "frozen", STUCK),
        ("meter-1", "voltage_l1", "drift", BAD_RANGE),
        ("climate-1", "temperature", "out_of_range", BAD_RANGE),
        ("climate-2", "temperature", "nan", BAD_RANGE),  # an integer has no NaN: the device sends its lowest number
        ("dust-1", "pm2_5", "out_of_range", BAD_RANGE),
        ("dust-1", "pm2_5", "nan", BAD_RANGE),  # 65535
        ("weather-1", "MDA.temperature", "out_of_range", BAD_RANGE),
        ("text-1", "temperature", "out_of_range", BAD_RANGE),
        ("text-1", "temperature", "nan", BAD_NUMBER),
        ("polled-1", "temperature", "nan", BAD_NUMBER),
        ("polled-1", "temperature", "drift", BAD_RANGE),
    ],
)
def test_a_bad_value_says_why(device: str, stream: str, kind: str, code: int, run: Run) -> None:
    window = next(one for one in run.windows if one.device == device and one.kind == kind)
    codes = Counter(
        one.status
        for one in readings(run, device)
        if one.stream == stream and window.begin_ns + 4 * SECOND // 5 <= one.time_ns <= window.end_ns - SECOND // 10
    )
    if code == STUCK:
        assert codes[STUCK] >= 2, codes  # from a second on: that is how long the configuration allows
    else:
        assert set(codes) == {code}, {reason_of(one): count for one, count in codes.items()}
