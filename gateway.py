"""The gateway's composition root: loads the configuration, wires the parts, runs them. No logic lives here."""

import asyncio
import importlib.metadata
import secrets
import signal
import sys
from collections.abc import Callable
from functools import lru_cache

from contract.catalogue import decode_birth, epoch_of
from drivers.base import DriverRegistry
from drivers.registry import Registry
from edge import cli, runtime
from edge.birth import alarms_of, make_birth
from edge.books import Books, resume
from edge.bus_task import BusRun
from edge.clock import SystemClock, TrustedClock, ntp_source, system_source
from edge.config import GatewayConfig, OutboxSection
from edge.dating import Datings, machine_boot
from edge.eyes import Eyes
from edge.health import HealthBus, health_scan_of, outbox_figures, system_figures
from edge.outbox import Outbox
from edge.outbox_disk import Disk
from edge.packer import Packer
from edge.pipeline import Pipeline
from edge.status import Status
from edge.streams import StreamTable
from edge.supervisor import Supervisor
from edge.uplink import Uplink

# Sources that can wait do so while this many frames wait on disk.
PATIENCE_FRAMES = 200


def main() -> int:
    """The command `weinao-gateway`."""
    return cli.main(sys.argv[1:], Registry(), run)


def run(config: GatewayConfig, registry: DriverRegistry) -> int:
    """`weinao-gateway run`: until SIGTERM or SIGINT; 0 when it stopped as it should."""
    asyncio.run(_run(config, registry))
    return 0


async def _run(config: GatewayConfig, registry: DriverRegistry) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await runtime.run(wire(config, registry), stopping)


def wire(config: GatewayConfig, registry: DriverRegistry) -> runtime.Parts:
    """The parts of the gateway that `config` describes, wired and not yet running. Raises ConfigError."""
    file = config.file
    eyes = Eyes(
        lambda: clock.offset_ns, lambda name: outbox.load_note(name), lambda name, data: outbox.save_note(name, data)
    )
    runs = eyes.bus_runs(config, registry)
    health = health_scan_of(runs, file.health.interval_s)
    table = StreamTable([*((scan, not bus.listening) for bus in runs for scan in bus.scans), (health, True)])
    software = importlib.metadata.version("weinao")
    models = eyes.models(config)
    birth = make_birth(file.gateway, config.buses, table.entries, software=software, models=models).encode()
    epoch = epoch_of(birth)
    taps = runtime.taps_of(file, table.entries)
    outbox = _open_outbox(file.outbox, lambda: books.state(), taps.disk if taps else None)
    outbox.save_birth(epoch, birth)
    resumed = resume(outbox.recovery.last_state, outbox.recovery.frames, outbox.birth)
    books = Books(table.entries, resumed)
    machine = SystemClock()
    believed = {
        "system": system_source(machine, resumed.newest_ns),
        "ntp": ntp_source(file.clock.sync_marker),
        "marker": file.clock.sync_marker.exists,
    }
    synced = believed[file.clock.source]
    clock = TrustedClock(machine, synced, outbox.load_note, outbox.save_note, newest_ns=resumed.newest_ns)
    boot = secrets.randbits(48)
    packer = Packer(
        books,
        clock,
        outbox.append,
        epoch=epoch,
        boot=boot,
        linger_s=file.publish.effective_linger_s(),
        max_readings=file.publish.max_readings,
        has_room=lambda: outbox.stats().frames < PATIENCE_FRAMES,
        told=taps.frames.add if taps else None,
    )
    pipeline = Pipeline(table, clock, packer)
    health_bus = HealthBus(
        lambda: supervisor.devices(), clock, outbox_figures(outbox, clock), system_figures(file.outbox.directory)
    )
    own = BusRun("gateway", health_bus, [health])
    supervisor = Supervisor([*runs, own], pipeline, machine, max_backoff_s=file.backoff_max_s)
    datings = Datings(outbox.load_note, outbox.save_note, machine_boot())
    datings.begin(boot, resumed.newest_ns, machine.boottime_ns())
    uplink = Uplink(decode_birth(birth).path, outbox, file.mqtt, file.publish, boot=boot, epoch=epoch, datings=datings)
    status = Status(file.gateway.id, clock, supervisor, pipeline, packer, outbox, uplink, eyes)
    return runtime.Parts(config, machine, clock, datings, supervisor, packer, outbox, uplink, status, eyes, taps, epoch)


def _open_outbox(section: OutboxSection, state: Callable[[], bytes], disk: Disk | None) -> Outbox:
    outbox = Outbox.open(
        section.directory,
        max_bytes=section.max_bytes,
        min_free_bytes=section.min_free_bytes,
        state=state,
        keep_whole=lru_cache(64)(lambda epoch: alarms_of(outbox.birth(epoch))),
        disk=disk,
    )
    return outbox


if __name__ == "__main__":
    sys.exit(main())
