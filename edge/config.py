"""The gateway's configuration: what a technician writes, checked before anything starts.

One file. Driver-specific parts are validated by the driver's own model; everything else by the models here. Nothing
here touches a network, a port or a device: `probe` does that.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from contract import config_file
from contract.broker import Broker, beside
from contract.catalogue import Area, Grade, Site
from contract.config_file import MarkedDict, problem_at
from contract.errors import ConfigError
from contract.metrics_config import Metrics
from contract.names import Name
from drivers.base import BusSpec, DriverRegistry, Spec
from edge.page_config import Page

MIB = 1024 * 1024


class GatewaySection(Spec):
    """Who this gateway is, where it stands, and whose data it gathers (a stream may say otherwise)."""

    id: Name
    area: Area
    site: Site = Site()
    owner: str = ""
    contact: str = ""
    grade: Grade = Grade.RESTRICTED
    shared_with: tuple[str, ...] = ()
    retention: str = "standard"
    legal_basis: str = ""


class MqttSection(Broker):
    """The broker of the city."""


class OutboxSection(Spec):
    """The disk queue that keeps readings until the database has them."""

    directory: Path
    max_bytes: int = Field(512 * MIB, ge=1 * MIB)
    min_free_bytes: int = Field(64 * MIB, ge=0)


class PublishSection(Spec):
    """How readings travel: small frames soon, or large frames cheaply.

    linger_s: how long a frame collects readings. window_frames: frames sent and not yet acknowledged by the database.
    backlog_bytes_per_s: how fast old frames drain after an outage, beside the live ones.
    ack_timeout_s: after that an unacknowledged frame is sent again, then after twice as long, and so on.
    """

    profile: Literal["realtime", "balanced", "frugal"] = "balanced"
    linger_s: float | None = Field(None, gt=0, le=3600)
    max_readings: int = Field(50_000, ge=1, le=500_000)
    window_frames: int = Field(64, ge=1, le=1000)
    backlog_bytes_per_s: int = Field(4 * MIB, ge=1024)
    ack_timeout_s: float = Field(10, gt=0, le=3600)

    def effective_linger_s(self) -> float:
        """Seconds a frame collects readings: `linger_s`, else what the profile means."""
        return self.linger_s or {"realtime": 0.1, "balanced": 1.0, "frugal": 60.0}[self.profile]


class ClockSection(Spec):
    """When to believe the system clock.

    system: at once, when it is later than the newest reading on disk. ntp: when the kernel says that it is
    synchronised, or `sync_marker` exists. marker: when `sync_marker` exists, for time services that tell no kernel.
    """

    source: Literal["system", "ntp", "marker"] = "system"
    sync_marker: Path = Path("/run/systemd/timesync/synchronized")


class HealthSection(Spec):
    """The gateway's own streams."""

    interval_s: float = Field(10, ge=1, le=3600)


class VisionSection(Spec):
    """What cameras are looked at with.

    models: the folder of models and their cards; the product's own when it is not given. provider: what runs them.
    """

    models: Path | None = None
    provider: Literal["cpu", "openvino", "cuda", "tensorrt"] = "cpu"

    @property
    def folder(self) -> Path:
        """The folder of models."""
        return self.models or Path(__file__).resolve().parent.parent / "models"


class StatusSection(Spec):
    """Where `weinao-gateway status` finds the running gateway. Default: `status.sock` beside the outbox."""

    socket: Path | None = None


class GatewayFile(Spec):
    """The file's sections but for `buses`, which the drivers' own models check."""

    gateway: GatewaySection
    mqtt: MqttSection
    outbox: OutboxSection
    publish: PublishSection = PublishSection()
    clock: ClockSection = ClockSection()
    health: HealthSection = HealthSection()
    status: StatusSection = StatusSection()
    vision: VisionSection = VisionSection()
    metrics: Metrics | None = None
    page: Page | None = None
    backoff_max_s: float = Field(60, gt=0, le=3600)


class GatewayConfig(Spec):
    """A configuration that may run."""

    file: GatewayFile
    buses: tuple[BusSpec, ...]

    @property
    def status_socket(self) -> Path:
        """Where the running gateway answers."""
        return self.file.status.socket or self.file.outbox.directory / "status.sock"


def load(path: Path, registry: DriverRegistry, *, open_files: bool = False) -> GatewayConfig:
    """The configuration in `path`. Raises ConfigError with every problem found, one line each.

    open_files: look also into the files it names (password, certificates), which may stand on the gateway alone.
    """
    data = config_file.load_yaml(path)
    raw_buses = data.get("buses")
    problems: list[str] = []
    rest = _without(data, "buses")
    try:
        file = GatewayFile.model_validate(rest)
    except ValidationError as error:
        problems.extend(config_file.describe(error, rest, GatewayFile))
        file = None
    buses: list[BusSpec] = []
    if not isinstance(raw_buses, list) or not raw_buses:
        found = "nothing" if not raw_buses else f"a {type(raw_buses).__name__.removeprefix('Marked').lower()}"
        problems.append(problem_at(data, ["buses"], f"found {found}, expected a list of at least one bus"))
    else:
        for index, raw in enumerate(raw_buses):
            try:
                buses.append(_bus(data, index, raw, registry))
            except ConfigError as error:
                problems.extend(error.problems)
        problems.extend(_duplicates(data, raw_buses))
    if problems or file is None:
        raise ConfigError(sorted(dict.fromkeys(problems), key=_by_place))
    placed = tuple(beside(bus, path.parent) for bus in buses)
    config = GatewayConfig.model_construct(file=beside(file, path.parent), buses=placed)
    if problems := list(_model_problems(data, config.file.vision.folder, buses, registry)):
        raise ConfigError(problems)
    if open_files and (problems := [*_file_problems(data, config.file.mqtt), *_shown_problems(data, config.file)]):
        raise ConfigError(problems)
    return config


def _file_problems(data: MarkedDict, mqtt: MqttSection) -> Iterable[str]:
    """What is wrong with the files that the broker's section names."""
    try:
        mqtt.read_password()
    except ConfigError as error:
        text = error.problems[0].partition(": ")[2]
        yield problem_at(data, ["mqtt", "password_file"], text)
    if mqtt.tls is None:
        return
    for key in ("ca", "cert", "key"):
        file: Path | None = getattr(mqtt.tls, key)
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            yield problem_at(data, ["mqtt", "tls", key], f"{file} cannot be read: {error.strerror}")
            return
    try:
        mqtt.tls.context()
    except OSError as error:
        yield problem_at(data, ["mqtt", "tls"], f"these are no PEM certificate and key that belong together: {error}")


def _shown_problems(data: MarkedDict, file: GatewayFile) -> Iterable[str]:
    """What is wrong with the files that `metrics` and `page` name."""
    reads: list[tuple[str, str, Callable[[], object]]] = []
    if file.metrics is not None:
        reads += [("metrics", "password_file", file.metrics.credentials), ("metrics", "tls", file.metrics.context)]
    if file.page is not None:
        reads += [("page", "password_file", file.page.password), ("page", "tls", file.page.context)]
    for section, key, read in reads:
        try:
            read()
        except ConfigError as error:
            yield problem_at(data, [section, key], error.problems[0].partition(": ")[2])


def _model_problems(data: MarkedDict, folder: Path, buses: list[BusSpec], registry: DriverRegistry) -> Iterable[str]:
    """Whether each camera's model is there and knows what the camera counts."""
    for index, bus in enumerate(buses):
        if registry.get(bus.driver).capture is None:
            continue
        from edge.vision.models import model_problems

        for steps, text in model_problems(bus, folder):
            yield problem_at(data, ["buses", index, "devices", 0, *steps], text)


def _bus(data: MarkedDict, index: int, raw: object, registry: DriverRegistry) -> BusSpec:
    place: list[str | int] = ["buses", index]
    if not isinstance(raw, MarkedDict):
        raise ConfigError([problem_at(data, place, "expected a bus: 'name', 'driver', 'devices'")])
    name = raw.get("driver")
    if not isinstance(name, str):
        raise ConfigError([problem_at(data, [*place, "driver"], f"expected one of: {', '.join(registry.names())}")])
    try:
        driver = registry.get(name)
    except ConfigError as error:
        raise ConfigError([problem_at(data, [*place, "driver"], text) for text in error.problems]) from None
    devices = raw.get("devices")
    if isinstance(devices, list):
        for position, device in enumerate(devices):
            if isinstance(device, MarkedDict):
                devices[position] = registry.expand(device, name)
    try:
        spec = driver.bus_spec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_in_bus(error, data, index, driver.bus_spec)) from None
    return spec


def _in_bus(error: ValidationError, data: MarkedDict, index: int, model: type[BaseModel]) -> list[str]:
    """The problems of one bus, with keys counted from the top of the file."""
    bus = data["buses"][index]
    prefix = f"buses.{index}"
    lines = []
    for line in config_file.describe(error, bus, model):
        place, _, text = line.partition(": ")
        lines.append(f"{place}: {prefix}.{text}")
    return lines


def _duplicates(data: MarkedDict, buses: list[object]) -> Iterable[str]:
    """Names that must be unique in the whole file: buses, and devices across buses."""
    bus_names: dict[str, int] = {}
    device_names: dict[str, str] = {}
    for index, bus in enumerate(buses):
        if not isinstance(bus, MarkedDict):
            continue
        name = str(bus.get("name"))
        if name in bus_names:
            yield problem_at(data, ["buses", index, "name"], f"bus {name!r} is already buses.{bus_names[name]}")
        bus_names.setdefault(name, index)
        devices = bus.get("devices")
        for position, device in enumerate(devices if isinstance(devices, list) else []):
            if not isinstance(device, dict) or "name" not in device:
                continue
            device_name = str(device["name"])
            where: list[str | int] = ["buses", index, "devices", position, "name"]
            if device_name in device_names:
                yield problem_at(
                    data, where, f"device {device_name!r} stands already on bus {device_names[device_name]!r}"
                )
            if device_name == "gateway":
                yield problem_at(data, where, "'gateway' is the gateway's own device; choose another name")
            device_names.setdefault(device_name, name)


def _without(data: MarkedDict, key: str) -> MarkedDict:
    rest = MarkedDict({name: value for name, value in data.items() if name != key})
    rest.mark, rest.keys_at, rest.values_at = data.mark, data.keys_at, data.values_at
    return rest


def _by_place(line: str) -> tuple[str, int, int]:
    file, _, rest = line.partition(":")
    numbers = rest.split(":", 2)
    try:
        return file, int(numbers[0]), int(numbers[1])
    except (ValueError, IndexError):
        return file, 0, 0
