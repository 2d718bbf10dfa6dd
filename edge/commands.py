"""What a technician types beside `run`: check, probe, status, outbox, profiles.

Each prints what a tired person on a ladder can act on, and returns the exit code: 0 fine, 1 something is wrong out
there, 2 the configuration or the arguments are wrong (raised as ConfigError, printed by the command line).
"""

import asyncio
import json
import socket
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from contract import local_socket
from contract.errors import DeviceUnavailable
from contract.readings import Quality, quality_of, reason_of
from drivers.base import Block, Bus, BusSpec, Driver, DriverRegistry, Explains, Scan
from drivers.base_camera import CameraBusSpec, OpenCapture
from edge import config as configs
from edge.config import GatewayConfig
from edge.streams import scans_of

LISTEN_MAX_S = 15.0
PIPE_COLUMNS = 200


@dataclass(slots=True)
class Finding:
    """What a probe found of one device."""

    bus: str
    device: str
    ok: bool
    values: int = 0
    streams: int = 0
    round_trip_ms: float | None = None
    problems: list[str] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)
    note: str = ""  # what is worth knowing although nothing is wrong

    def as_json(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def check(path: Path, registry: DriverRegistry, *, as_json: bool) -> int:
    """Say what the configuration means; raises ConfigError when it may not run. Touches no device and no network."""
    config = configs.load(path, registry, open_files=True)
    devices = [device for bus in config.buses for device in bus.devices]
    streams = sum(len(device.streams) for device in devices)
    gateway = config.file.gateway
    if as_json:
        counts = {"buses": len(config.buses), "devices": len(devices), "streams": streams}
        print(json.dumps({"ok": True, "gateway": gateway.id, **counts}))
        return 0
    area = f"{gateway.area.city} / {gateway.area.district} / {gateway.area.street}"
    print(f"{path}: fine. Gateway {gateway.id} in {area}")
    for bus in config.buses:
        names = ", ".join(device.name for device in bus.devices)
        print(f"  bus {bus.name} ({bus.driver}): {sum(len(d.streams) for d in bus.devices)} streams of {names}")
    print(f"  broker {config.file.mqtt.host}:{config.file.mqtt.port}, outbox {config.file.outbox.directory}")
    print(f"Next: weinao-gateway probe {path}")
    return 0


async def probe(path: Path, registry: DriverRegistry, *, as_json: bool) -> int:
    """Touch every device once, and the broker's address; exit 1 unless everything answers as configured."""
    config = configs.load(path, registry)
    broker = await _probe_broker(config)
    groups = await asyncio.gather(*(_probe_bus(bus, registry.get(bus.driver)) for bus in config.buses))
    findings = [finding for group in groups for finding in group]
    good = broker is None and all(finding.ok for finding in findings)
    if as_json:
        print(json.dumps({"ok": good, "broker": broker or "ok", "devices": [f.as_json() for f in findings]}))
    else:
        _print_findings(findings, broker, config)
    return 0 if good else 1


async def _probe_broker(config: GatewayConfig) -> str | None:
    """What is wrong with the way to the broker, or None."""
    host, port = config.file.mqtt.host, config.file.mqtt.port
    loop = asyncio.get_running_loop()
    try:
        await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, port)
    except socket.gaierror:
        return f"the name {host!r} cannot be resolved: check the spelling and this machine's DNS"
    except TimeoutError:
        return f"{host}:{port} does not answer within 5 s: check the network and the firewall"
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}: is the broker running there?"
    writer.close()
    return None


async def _probe_bus(spec: BusSpec, driver: Driver) -> list[Finding]:
    if driver.capture is not None and isinstance(spec, CameraBusSpec):
        return [await _probe_camera(spec, driver.capture)]
    scans = [scan for device in spec.devices for scan in scans_of(device)]
    bus = driver.connect(spec, scans)
    findings = {
        device.name: Finding(spec.name, device.name, ok=True, streams=len(device.streams)) for device in spec.devices
    }
    try:
        await bus.open()
        if driver.listening(spec):
            await _probe_listening(bus, scans, findings)
        else:
            for scan in scans:
                await _probe_polled(bus, scan, findings[scan.device.name])
    except DeviceUnavailable as error:
        for finding in findings.values():
            if not finding.values:
                finding.ok = False
                finding.problems.append(str(error))
    finally:
        await bus.close()
    return list(findings.values())


async def _probe_camera(spec: CameraBusSpec, open_capture: OpenCapture) -> Finding:
    from edge.vision.probe import probe as look_at  # OpenCV: only where there is a camera

    sight = await look_at(spec, open_capture)
    camera = spec.devices[0]
    finding = Finding(spec.name, camera.name, ok=not sight.problem and not sight.hints, streams=len(camera.streams))
    finding.round_trip_ms = sight.first_ms
    finding.problems = [sight.problem] if sight.problem else sight.hints
    if not sight.problem:
        finding.note = sight.told()
    return finding


async def _probe_polled(bus: Any, scan: Scan, finding: Finding) -> None:
    began_s = time.perf_counter()
    try:
        block: Block = await bus.poll(scan)
    except DeviceUnavailable as error:
        if error.whole_bus:
            raise
        finding.ok = False
        finding.problems.append(str(error))
        return
    finding.round_trip_ms = round((time.perf_counter() - began_s) * 1e3, 1)
    _note(block, finding, bus.explain(scan) if isinstance(bus, Explains) else {})


async def _probe_listening(bus: Any, scans: Sequence[Scan], findings: dict[str, Finding]) -> None:
    """Wait for one message of every device, as long as three of its intervals but at least three seconds."""
    patience_s = min(LISTEN_MAX_S, max(3.0, *(3 * scan.interval_s for scan in scans)))
    silent = set(findings)
    began_s = time.perf_counter()
    try:
        async with asyncio.timeout(patience_s):
            async for block in bus.listen():
                finding = findings[block.scan.device.name]
                finding.round_trip_ms = finding.round_trip_ms or round((time.perf_counter() - began_s) * 1e3, 1)
                _note(block, finding, {})
                silent.discard(block.scan.device.name)
                if not silent and all(f.values >= f.streams for f in findings.values()):
                    return
    except TimeoutError:
        for name in silent:
            findings[name].ok = False
            findings[name].problems.append(f"nothing understandable heard within {patience_s:.0f} s{_noise(bus)}")


def _noise(bus: Bus) -> str:
    garbage = getattr(bus, "garbage_bytes", 0)
    if garbage:
        return f"; {garbage} bytes came that are no message of this device: check baud rate, parity and profile"
    return ": check power, wiring (A/B, TX/RX) and the port"


def _note(block: Block, finding: Finding, explained: Mapping[str, str]) -> None:
    """Count what the block brought, and name what it could not bring."""
    values: list[Any] = [*block.floats.tolist(), *block.ints.tolist(), *block.texts]
    for stream, value, code in zip(block.scan.streams, values, block.status.tolist(), strict=True):
        if code == 0xFF:
            continue
        if quality_of(code) is Quality.MISSING:
            finding.ok = False
            why = explained.get(stream.name, reason_of(code).name.lower().replace("_", " "))
            finding.problems.append(f"{stream.name}: {why}")
        elif stream.name not in finding.samples:
            finding.values += 1
            shown = value * stream.scale + stream.offset if isinstance(value, int | float) else value
            finding.samples[stream.name] = f"{shown:.6g}" if isinstance(shown, float) else str(shown)


def _print_findings(findings: Sequence[Finding], broker: str | None, config: GatewayConfig) -> None:
    table = Table(title=None, show_lines=False)
    for heading in ("bus", "device", "result", "values", "answer"):
        table.add_column(heading, justify="right" if heading in {"values", "answer"} else "left")
    for finding in findings:
        result = "[green]ok[/]" if finding.ok else "[red]FAILED[/]"
        answer = f"{finding.round_trip_ms:.0f} ms" if finding.round_trip_ms is not None else "-"
        values = "-" if finding.note else f"{finding.values}/{finding.streams}"  # a camera's are made by counting
        table.add_row(finding.bus, finding.device, result, values, answer)
    _show(table, markup=True)
    for finding in findings:
        if finding.note:
            print(f"{finding.device}: {finding.note}")
        for problem in finding.problems:
            print(f"{finding.device}: {problem}")
    host, port = config.file.mqtt.host, config.file.mqtt.port
    print(f"broker: {broker}" if broker else f"broker: {host}:{port} is there")


def _show(table: Table, *, markup: bool = False) -> None:
    # A pipe or a log has no width of its own; a name cut in two cannot be searched for.
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    Console(markup=markup, highlight=False, width=width).print(table)


def profiles(registry: DriverRegistry, *, as_json: bool) -> int:
    """The device profiles that come with the product."""
    found = registry.profiles()
    if as_json:
        print(json.dumps([asdict(profile) for profile in found]))
        return 0
    table = Table()
    for heading in ("profile", "driver", "device", "streams", "document"):
        table.add_column(heading)
    for profile in found:
        device = f"{profile.manufacturer} {profile.model}"
        table.add_row(profile.name, profile.driver, device, str(profile.streams), profile.document)
    _show(table)
    return 0


def status(path: Path, registry: DriverRegistry, *, as_json: bool) -> int:
    """How the running gateway is; exit 1 when it does not answer, is not connected, or a device of it fails."""
    config = configs.load(path, registry)
    try:
        answer = local_socket.ask(config.status_socket, "status")
    except local_socket.NobodyThere as error:
        if as_json:
            print(json.dumps({"running": False, "ok": False, "problem": str(error)}))
        else:
            print(f"the gateway is not running: {error}")
            print(f"Start it: weinao-gateway run {path}   or, as a service: systemctl start weinao-gateway")
        return 1
    cameras = answer.get("cameras") or {}  # a gateway that was started before an update may say nothing of them
    ok = answer["uplink"]["connected"] and not any(device["state"] in _ILL for device in answer["devices"])
    ok = ok and all(camera["state"] in _SEEING for camera in cameras.values())
    if as_json:
        print(json.dumps({"running": True, "ok": ok, **answer}))
    else:
        _print_status(answer)
    return 0 if ok else 1


_ILL = {"failing", "backing off"}
_SEEING = {"ok", "connecting"}
_DEVICE_COLUMNS = ("success_percent", "latency_p50_ms", "last_good", "last_error")


def _print_status(answer: local_socket.Answer) -> None:
    uplink, outbox = answer["uplink"], answer["outbox"]
    state = "connected" if uplink["connected"] else f"NOT connected ({uplink['last_error'] or 'not yet'})"
    print(f"gateway {answer['gateway']}, up {answer['uptime_s']:.0f} s, clock {answer['clock']}")
    print(f"uplink {state}; {uplink['acknowledged']} frames acknowledged, {uplink['retransmitted']} sent again")
    print(f"outbox {outbox['frames']} frames, {outbox['bytes'] / 1e6:.1f} of {outbox['max_bytes'] / 1e6:.0f} MB")
    table = Table()
    for heading in ("device", "state", "success %", "latency ms", "last good", "last problem"):
        table.add_column(heading)
    for device in answer["devices"]:
        why = f", {device['reason']}" if device.get("reason") else ""
        figures = (device.get(key) for key in _DEVICE_COLUMNS)
        table.add_row(device["name"], device["state"] + why, *("" if one is None else str(one) for one in figures))
    _show(table)
    if answer.get("cameras"):
        _print_cameras(answer["cameras"])


_CAMERA_COLUMNS = ("fps", "inference_ms", "dropped", "connections", "restarts", "last_frame_ago_s", "error")


def _print_cameras(cameras: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table()
    headings = (
        "camera",
        "sees",
        "looks/s",
        "model ms",
        "dropped",
        "connections",
        "restarts",
        "last frame s",
        "problem",
    )
    for heading in headings:
        table.add_column(heading)
    for name, camera in cameras.items():
        table.add_row(name, camera["state"], *(str(camera.get(key, "")) for key in _CAMERA_COLUMNS))
    _show(table)


def outbox(path: Path, registry: DriverRegistry, *, as_json: bool) -> int:
    """What waits on this gateway's disk, asked of the running gateway or read from the folder."""
    config = configs.load(path, registry)
    try:
        answer = {"running": True, **local_socket.ask(config.status_socket, "outbox")}
    except local_socket.NobodyThere:
        answer = _outbox_folder(config.file.outbox.directory)
    if as_json:
        print(json.dumps(answer))
    else:
        for key, value in answer.items():
            print(f"{key.replace('_', ' '):24} {value}")
    return 0


def _outbox_folder(directory: Path) -> dict[str, Any]:
    """What can be said of the folder when no gateway runs on it: only a gateway knows which frames are done."""
    sizes = []
    for entry in directory.rglob("*") if directory.is_dir() else ():
        try:
            found = entry.stat()
        except FileNotFoundError:  # a gateway that starts just now tidies up
            continue
        if stat.S_ISREG(found.st_mode):
            sizes.append(found.st_size)
    return {"running": False, "directory": str(directory), "bytes": sum(sizes)}
