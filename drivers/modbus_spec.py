"""What a technician may write about a Modbus bus: the configuration models, and every way in which they can be wrong.

All checks are pure: no socket, no port, no file is touched. A message says what was expected and what was found.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from contract.readings import Kind
from drivers.base import BusSpec, DeviceSpec, Spec, StreamSpec, Timeout
from drivers.modbus_terms import FUNCTIONS, KINDS, REGISTERS, UNSIGNED, Format, Order, Span, Table, Transport

T = TypeVar("T")


def _check_function(value: object) -> object:
    if isinstance(value, bool) or value not in FUNCTIONS.values():
        raise ValueError(
            f"function code {str(value)[:20]}: expected 1 (coils), 2 (discrete inputs), 3 (holding registers) "
            "or 4 (input registers)"
        )
    return value


def _check_unit(value: int) -> int:
    if not 0 <= value <= 247 and value != 255:
        raise ValueError(f"unit {value}: expected 1 to 247, or 0 or 255 for the device at the other end of TCP itself")
    return value


def _parity(value: object) -> object:
    return {"none": "N", "even": "E", "odd": "O"}.get(value, value) if isinstance(value, str) else value


def _at_least_one(value: tuple[T, ...]) -> tuple[T, ...]:
    # pydantic's own min_length adds "found 0" to every error within an item.
    if not value:
        raise ValueError("expected at least one, found none")
    return value


BitRange = tuple[Annotated[int, Field(ge=0, le=63)], Annotated[int, Field(ge=0, le=63)]]
Address = Annotated[int, Field(ge=0, le=65_535)]


class ModbusStream(StreamSpec):
    """One value of a device.

    `type` defaults to what the format brings: bool for a single bit, text for a string, float for floats and for
    integers with a scale, an offset or a fractional resolution, int for other integers.
    """

    function: Annotated[Literal[1, 2, 3, 4] | None, BeforeValidator(_check_function)] = Field(
        None, description="the read function code, for those who know it better than the table's name"
    )
    table: Table = Field(description="coil, discrete, holding or input")
    address: Address = Field(description="of the first register or bit; counted as the device's `zero_based` says")
    format: Format = Field(Format.UINT16, description="bool for coils and discrete inputs")
    length: int | None = Field(None, ge=1, le=125, description="registers of a string")
    bit: int | None = Field(None, ge=0, le=63, description="one bit of the value, 0 the least significant")
    bits: BitRange | None = Field(None, description="[first, last] bits of the value, 0 the least significant")
    order: Order | None = Field(None, description="byte and word order; the device's when absent")
    allow_overlap: bool = Field(False, description="may share registers with a stream of another format")

    @model_validator(mode="before")
    @classmethod
    def _infer(cls, data: Any) -> Any:
        return _fill(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _consistent(self) -> "ModbusStream":
        if self.function is not None and self.function != self.table.function:
            raise ValueError(
                f"function: found {self.function}, but table {self.table.value!r} is read by {self.table.function}"
            )
        if self.table.is_bits and self.format is not Format.BOOL:
            raise ValueError(f"format: expected bool for a {self.table.entry}, found {self.format.value}")
        if (self.length is not None) != (self.format is Format.STRING):
            raise ValueError("length: expected with format string, in registers, and with no other format")
        self._check_bits()
        kinds = (Kind.BOOL, Kind.INT) if self.bit is not None else KINDS.get(self.format, (Kind.INT, Kind.FLOAT))
        if self.type not in kinds:
            expected = " or ".join(kind.value for kind in kinds)
            shown = "one bit" if self.bit is not None else self.format.value
            raise ValueError(f"type: expected {expected} for format {shown}, found {self.type.value}")
        if self.address + self.registers > 65_536:
            raise ValueError(
                f"address: the {self.registers} registers of {self.format.value} at {self.address} pass the last, 65535"
            )
        return self

    def _check_bits(self) -> None:
        if self.bit is None and self.bits is None:
            return
        if self.bit is not None and self.bits is not None:
            raise ValueError("bits: expected bit or bits, found both")
        if self.table.is_bits or self.format not in UNSIGNED:
            raise ValueError(f"bit: expected with uint16, uint32 or uint64 registers, found {self.format.value}")
        first, last = self.bit_range
        if not first <= last < self.registers * 16:
            top = self.registers * 16 - 1
            raise ValueError(f"bits: expected first <= last <= {top} in {self.format.value}, found [{first}, {last}]")

    @property
    def registers(self) -> int:
        """Addresses that the value takes."""
        return self.length if self.length is not None else REGISTERS.get(self.format, 1)

    @property
    def bit_range(self) -> tuple[int, int]:
        """First and last bit of the value that count; all of them when neither `bit` nor `bits` is given."""
        if self.bit is not None:
            return self.bit, self.bit
        return self.bits if self.bits is not None else (0, self.registers * 16 - 1)


def _fill(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's raw configuration with what follows from the rest of it: table, format, type."""
    filled = dict(data)
    if "table" not in filled and "function" in filled:
        # A wrong code is reported by its own field; any table keeps a second complaint about `table` away.
        named = [table for table, code in FUNCTIONS.items() if code == filled["function"]]
        filled["table"] = named[0] if named else Table.HOLDING
    if "format" not in filled and filled.get("table") in (Table.COIL, Table.DISCRETE):
        filled["format"] = Format.BOOL
    filled.setdefault("type", _infer_kind(filled))
    return filled


def _infer_kind(data: Mapping[str, Any]) -> Kind:
    form = data.get("format", Format.UINT16)
    if form == Format.STRING:
        return Kind.TEXT
    if form == Format.BOOL or data.get("bit") is not None:
        return Kind.BOOL
    resolution = data.get("resolution")
    whole = not isinstance(resolution, float) or resolution.is_integer()
    return Kind.INT if whole and _is_plain(data) and form not in (Format.FLOAT32, Format.FLOAT64) else Kind.FLOAT


def _is_plain(data: Mapping[str, Any]) -> bool:
    return bool(data.get("scale", 1) == 1 and data.get("offset", 0) == 0)


Ranges = tuple[tuple[Address, Address], ...]


class ModbusDevice(DeviceSpec):
    """One device (unit) on the bus."""

    unit: int = Field(description="1 to 247; 0 or 255 for the TCP device itself")
    zero_based: bool = Field(True, description="addresses as on the wire; false: they count from 1, as in some manuals")
    order: Order = Field(Order.ABCD, description="byte and word order of streams that name none")
    max_block: int = Field(120, ge=1, le=125, description="most registers in one request")
    max_block_bits: int = Field(2000, ge=1, le=2000, description="most coils or discrete inputs in one request")
    max_gap: int = Field(8, ge=0, le=124, description="most unwanted registers read in a row to save a request")
    max_gap_bits: int = Field(128, ge=0, le=1999, description="the same for coils and discrete inputs")
    forbidden: dict[Table, Ranges] = Field(
        default_factory=dict, description="[first, last] ranges a table that must never be read"
    )
    write_single: bool = Field(True, description="false: the device knows functions 15 and 16, not 5 and 6")
    streams: Annotated[tuple[ModbusStream, ...], AfterValidator(_at_least_one)]

    _unit = field_validator("unit")(_check_unit)

    @model_validator(mode="before")
    @classmethod
    def _scaled(cls, data: Any) -> Any:
        """A device's scale or offset makes floats of its integers."""
        if not isinstance(data, Mapping) or _is_plain(data) or not isinstance(data.get("streams"), list | tuple):
            return data
        streams = []
        for stream in data["streams"]:
            is_int = isinstance(stream, Mapping) and "type" not in stream and _fill(stream)["type"] is Kind.INT
            streams.append({**stream, "type": Kind.FLOAT} if is_int else stream)
        return {**data, "streams": streams}

    @model_validator(mode="after")
    def _consistent(self) -> "ModbusDevice":
        for table, ranges in self.forbidden.items():
            for first, last in ranges:
                if first > last:
                    raise ValueError(f"forbidden: expected {table.value} [first, last], found [{first}, {last}]")
        names: set[str] = set()
        for stream in self.streams:
            if stream.name in names:
                raise ValueError(f"streams: two are called {stream.name!r}; expected names unique in a device")
            names.add(stream.name)
            self._check_place(stream)
        self._check_overlaps()
        return self

    def _check_place(self, stream: ModbusStream) -> None:
        if stream.address == 0 and not self.zero_based:
            raise ValueError(f"stream {stream.name!r}: address 0, but with zero_based: false addresses start at 1")
        if not stream.table.is_bits and stream.registers > self.max_block:
            raise ValueError(
                f"stream {stream.name!r} takes {stream.registers} registers; max_block is {self.max_block}"
            )
        for first, last in self.forbidden.get(stream.table, ()):
            if stream.address <= last and stream.address + stream.registers > first:
                raise ValueError(f"stream {stream.name!r} reads {self.place(stream)}, forbidden is [{first}, {last}]")

    def _check_overlaps(self) -> None:
        for table in Table:
            open_streams: list[ModbusStream] = []
            ordered = (stream for stream in self.streams if stream.table is table)
            for stream in sorted(ordered, key=lambda one: one.address):
                open_streams = [one for one in open_streams if one.address + one.registers > stream.address]
                for other in open_streams:
                    self._check_pair(other, stream)
                open_streams.append(stream)

    def _check_pair(self, one: ModbusStream, two: ModbusStream) -> None:
        pair = f"overlapping streams {one.name!r} and {two.name!r}"
        same = (one.address, one.format, one.length, self.order_of(one)) == (
            two.address,
            two.format,
            two.length,
            self.order_of(two),
        )
        if same and one.bit_range == two.bit_range:
            raise ValueError(f"{pair}: both read {self.place(two)} as {two.format.value}; expected each value once")
        low, high = max(one.bit_range[0], two.bit_range[0]), min(one.bit_range[1], two.bit_range[1])
        if (same and low > high) or one.allow_overlap or two.allow_overlap:
            return
        raise ValueError(
            f"{pair}: {self.place(one)} as {one.format.value} and {self.place(two)} as {two.format.value} share "
            "registers; if that is meant, say allow_overlap: true"
        )

    def order_of(self, stream: ModbusStream) -> Order:
        """The stream's byte and word order."""
        return stream.order or self.order

    def wire(self, stream: ModbusStream) -> int:
        """The stream's first address as on the wire, counted from 0."""
        return stream.address if self.zero_based else stream.address - 1

    def forbidden_spans(self) -> Iterable[Span]:
        """What must never be read, as on the wire."""
        base = 0 if self.zero_based else 1
        for table, ranges in self.forbidden.items():
            for first, last in ranges:
                yield Span(table, max(0, first - base), last - base)

    def name_span(self, span: Span) -> str:
        """Words for addresses on the wire, counted as this device's configuration counts."""
        base = 0 if self.zero_based else 1
        if span.first == span.last:
            return f"{span.table.entry} {span.first + base}"
        return f"{span.table.entry}s {span.first + base}-{span.last + base}"

    def place(self, stream: ModbusStream) -> str:
        """Words for where the stream is."""
        first = self.wire(stream)
        return self.name_span(Span(stream.table, first, first + stream.registers - 1))


class Tls(Spec):
    """How the TLS peer is known, and how this gateway makes itself known. Files are PEM."""

    ca: str = Field(
        min_length=1, description="file with the certificate (or its authority's) that the device must show"
    )
    cert: str | None = Field(
        None, description="file with this gateway's own certificate, where the device asks for one"
    )
    key: str | None = Field(None, description="file with its private key; may be in the same file")
    server_name: str | None = Field(None, description="the name in the device's certificate, when it is not `host`")

    @model_validator(mode="after")
    def _consistent(self) -> "Tls":
        if self.key is not None and self.cert is None:
            raise ValueError("key: found without cert; expected both or neither")
        return self


SERIAL_KEYS = ("serial_port", "baud_rate", "parity", "stop_bits", "data_bits")
TCP_KEYS = ("host", "port")


class ModbusBusSpec(BusSpec):
    """One TCP connection or one serial line, and the devices that take turns on it."""

    driver: Literal["modbus"] = "modbus"
    transport: Transport = Field(description="tcp, rtu, rtu-over-tcp or tls")
    host: str | None = Field(None, description="name or address, for tcp, rtu-over-tcp and tls")
    port: int | None = Field(None, ge=1, le=65_535, description="502 when absent, 802 for tls")
    serial_port: str | None = Field(None, min_length=1, description="for rtu, such as /dev/ttyUSB0")
    baud_rate: int = Field(9600, ge=300, le=4_000_000)
    parity: Annotated[Literal["N", "E", "O"], BeforeValidator(_parity)] = Field("N", description="or none, even, odd")
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8
    tls: Tls | None = None
    timeout_s: Timeout = Field(
        1.0, description="for connecting, and for each answer (a serial line's own time is added)"
    )
    delay_between_requests_s: float | None = Field(
        None,
        ge=0,
        le=10,
        description="pause before each request; 0 on TCP, 3.5 characters on a serial line when absent",
    )
    devices: Annotated[tuple[ModbusDevice, ...], AfterValidator(_at_least_one)]

    @field_validator("host", mode="before")
    @classmethod
    def _host(cls, value: object) -> object:
        if value is None:
            raise ValueError("expected a name or an address, found null")
        if not isinstance(value, str):
            return value
        if not value or value != value.strip() or any(char.isspace() for char in value):
            raise ValueError(f"expected a name or an address without spaces, found {value[:80]!r}")
        if ":" in value:
            try:
                ipaddress.IPv6Address(value.partition("%")[0])
            except ValueError:
                raise ValueError(
                    f"expected a name or an address alone, found {value[:80]!r}; the port has its own key"
                ) from None
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _port(cls, value: object) -> object:
        if isinstance(value, str) and not value.isdigit():
            raise ValueError(f"expected a TCP port number, found {value[:80]!r}; a serial port's key is serial_port")
        return value

    @model_validator(mode="after")
    def _transport(self) -> "ModbusBusSpec":
        given = self.model_fields_set
        wanted, foreign = ("serial_port", TCP_KEYS) if self.is_serial else ("host", SERIAL_KEYS)
        for key in foreign:
            if key in given:
                raise ValueError(f"{key}: found, but transport {self.transport.value} has no such key")
        if getattr(self, wanted) is None:
            raise ValueError(f"{wanted}: expected with transport {self.transport.value}, found nothing")
        if (self.tls is not None) != (self.transport is Transport.TLS):
            raise ValueError(f"tls: expected with transport tls and no other, found transport {self.transport.value}")
        return self

    @model_validator(mode="after")
    def _devices(self) -> "ModbusBusSpec":
        names: set[str] = set()
        units: dict[int, str] = {}
        for device in self.devices:
            if device.name in names:
                raise ValueError(f"devices: two are called {device.name!r}; expected names unique on a bus")
            names.add(device.name)
            if device.unit in units:
                raise ValueError(
                    f"devices: {units[device.unit]!r} and {device.name!r} both have unit {device.unit}; "
                    "expected one device a unit id"
                )
            units[device.unit] = device.name
            if self.is_rtu and not 1 <= device.unit <= 247:
                raise ValueError(
                    f"device {device.name!r}: unit: expected 1 to 247 on {self.transport.value}, found {device.unit}"
                )
        return self

    @property
    def is_serial(self) -> bool:
        """A serial line, not a socket."""
        return self.transport is Transport.RTU

    @property
    def is_rtu(self) -> bool:
        """RTU frames, which carry no transaction id."""
        return self.transport in {Transport.RTU, Transport.RTU_OVER_TCP}

    @property
    def tcp_port(self) -> int:
        """The TCP port, given or the protocol's own."""
        return self.port or (802 if self.transport is Transport.TLS else 502)

    @property
    def peer(self) -> str:
        """What the other end is called in messages: host:port or the serial port."""
        if self.is_serial:
            return self.serial_port or ""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{host}:{self.tcp_port}"

    @property
    def char_s(self) -> float:
        """Seconds that one character takes on the serial line; 0 on TCP."""
        if not self.is_serial:
            return 0.0
        return (1 + self.data_bits + (self.parity != "N") + self.stop_bits) / self.baud_rate

    @property
    def silence_s(self) -> float:
        """The pause before each request, in seconds.

        On a serial line 3.5 characters, and 1.75 ms above 19200 baud (MODBUS over Serial Line V1.02, 2.5.1.1).
        """
        if self.delay_between_requests_s is not None:
            return self.delay_between_requests_s
        if not self.is_serial:
            return 0.0
        return 3.5 * self.char_s if self.baud_rate <= 19_200 else 0.001_75
