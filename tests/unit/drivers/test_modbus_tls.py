import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from modbus_make import device, scans_of, stream, tcp_bus
from modbus_wire import Image, Peer, Turn, serve_tcp

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.modbus import ModbusBus


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-made certificate for 'meter.local', and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=meter.local", "-addext", "subjectAltName=DNS:meter.local"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@asynccontextmanager
async def tls_bus(
    peer: Peer, certificate: tuple[Path, Path], *, ask_client: bool = False, **tls: Any
) -> AsyncIterator[tuple[ModbusBus, Any]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if ask_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate[0])
    keys = {"ca": str(certificate[0]), "server_name": "meter.local", **tls}
    async with serve_tcp(peer, context) as port:
        spec = tcp_bus(port, device(stream("s", 5)), transport="tls", tls=keys, timeout_s=2)
        [scan] = scans_of(spec)
        bus = ModbusBus(spec, [scan])
        yield bus, scan
        await bus.close()


async def test_values_come_through_tls_also_in_pieces(certificate: tuple[Path, Path]) -> None:
    peer = Peer(Image())
    peer.turns.extend([Turn(), Turn(split_at=8)])
    cert, key = certificate
    async with tls_bus(peer, certificate, ask_client=True, cert=str(cert), key=str(key)) as (bus, scan):
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert peer.connections == 1


async def test_a_certificate_for_another_name_is_refused(certificate: tuple[Path, Path]) -> None:
    async with tls_bus(Peer(Image()), certificate, server_name="other.local") as (bus, _):
        with pytest.raises(DeviceUnavailable, match=r"no TLS with 127\.0\.0\.1:.*other\.local") as caught:
            await bus.open()
        assert (caught.value.reason, caught.value.whole_bus) == (Reason.DISCONNECTED, True)


async def test_a_missing_certificate_file_is_named(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    async with tls_bus(Peer(Image()), certificate, ca=str(tmp_path / "none.pem")) as (bus, _):
        with pytest.raises(DeviceUnavailable, match=r"TLS file .*none\.pem: No such file"):
            await bus.open()
