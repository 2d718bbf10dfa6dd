"""What a technician gets wrong about the broker: said once, with the reason, while readings go on to disk."""

import asyncio
import gc
import logging
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Mosquitto, free_port
from uplink_kit import Bench, bench, until

from contract.topics import GatewayPath
from edge.uplink import Uplink

pytestmark = [
    pytest.mark.services,
    # paho drops the socket of a failed handshake and leaves closing it to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]
PATH = GatewayPath("test", "east", "first", "gw-connect")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_ca(folder: Path, name: str) -> None:
    subject = ("-subj", f"/CN={name}", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl(folder, "req", "-x509", *subject, "-keyout", f"{name}.key", "-out", f"{name}.pem")


def make_certificate(folder: Path, name: str, ca: str, address: str) -> None:
    request = ("-subj", f"/CN={name}", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl(folder, "req", *request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text(f"subjectAltName={address}\n", encoding="ascii")
    signing = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-extfile", f"{name}.ext", "-out", f"{name}.pem")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test left to the collector is collected before the next one."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A city's CA, a broker's and a gateway's certificate of it, a foreign CA, and a broker of another name."""
    folder = tmp_path_factory.mktemp("secrets")
    make_ca(folder, "city")
    make_ca(folder, "foreign")
    make_certificate(folder, "broker", "city", "IP:127.0.0.1")
    make_certificate(folder, "elsewhere", "city", "DNS:broker.elsewhere.example")
    make_certificate(folder, "gateway", "city", "DNS:gateway.example")
    return folder


def tls_broker(folder: Path, secrets: Path, name: str, *more: str) -> Mosquitto:
    lines = [f"certfile {secrets}/{name}.pem", f"keyfile {secrets}/{name}.key", f"cafile {secrets}/city.pem", *more]
    return Mosquitto(folder / f"broker-{name}", "\n".join(lines))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that knows one gateway and its password."""
    (tmp_path / "passwords").touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", tmp_path / "passwords", "gw", "right"], check=True, capture_output=True)
    with Mosquitto(tmp_path / "guarded", f"allow_anonymous false\npassword_file {tmp_path}/passwords") as server:
        yield server


@asynccontextmanager
async def trying(folder: Path, port: int, **mqtt: Any) -> AsyncIterator[tuple[Bench, Uplink]]:
    """An uplink that tries to reach `port` several times a second."""
    async with bench(folder, port, PATH.gateway) as rig:
        await rig.append(1)
        async with rig.sending({"reconnect_max_s": 0.2, **mqtt}) as uplink:
            yield rig, uplink


async def assert_said_once(rig: Bench, uplink: Uplink, caplog: pytest.LogCaptureFixture, why: str) -> None:
    await until(lambda: uplink.stats.failures >= 4, 20)
    await rig.append(1, first=1)
    warnings = [record.getMessage() for record in caplog.records if record.name == "edge.uplink"]
    assert len(warnings) == 1, warnings
    assert why in warnings[0]
    assert "sampling goes on" in warnings[0]
    assert (uplink.stats.connected, rig.outbox.stats().frames) == (False, 2)
    assert why in uplink.stats.last_error


async def test_a_wrong_password(tmp_path: Path, guarded: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    async with trying(tmp_path, guarded.port, username="gw", password="wrong") as (rig, uplink):  # noqa: S106 - the test's own
        await assert_said_once(rig, uplink, caplog, "Not authorized")


async def test_the_password_file_may_be_put_right_while_it_runs(
    tmp_path: Path, guarded: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gw.password"
    async with trying(tmp_path, guarded.port, username="gw", password_file=file) as (rig, uplink):
        await assert_said_once(rig, uplink, caplog, "gw.password cannot be read")
        caplog.set_level(logging.INFO, "edge.uplink")
        file.write_text("right\n", encoding="ascii")
        await until(lambda: uplink.stats.connected)
        assert "connected to the broker" in caplog.text


async def test_a_name_that_nobody_knows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with trying(tmp_path, 1883, host="no-such-broker.invalid", plaintext=True) as (rig, uplink):
        await assert_said_once(rig, uplink, caplog, "[Errno -")  # -2 or -3, by the resolver
    assert "no-such-broker.invalid" in caplog.text


async def test_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with trying(tmp_path, free_port()) as (rig, uplink):
        await assert_said_once(rig, uplink, caplog, "Connection refused")


async def test_tls_with_the_right_ca(tmp_path: Path, secrets: Path) -> None:
    tls = {"ca": secrets / "city.pem"}
    with tls_broker(tmp_path, secrets, "broker") as broker:
        async with trying(tmp_path, broker.port, tls=tls) as (_rig, uplink):
            await until(lambda: uplink.stats.frames_sent == 1)


async def test_tls_with_the_gateways_own_certificate(tmp_path: Path, secrets: Path) -> None:
    own = {"ca": secrets / "city.pem", "cert": secrets / "gateway.pem", "key": secrets / "gateway.key"}
    with tls_broker(tmp_path, secrets, "broker", "require_certificate true") as broker:
        async with trying(tmp_path, broker.port, tls=own) as (_rig, uplink):
            await until(lambda: uplink.stats.frames_sent == 1)


async def test_tls_refuses_a_broker_of_a_foreign_ca(
    tmp_path: Path, secrets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tls_broker(tmp_path, secrets, "broker") as broker:
        async with trying(tmp_path, broker.port, tls={"ca": secrets / "foreign.pem"}) as (rig, uplink):
            await assert_said_once(rig, uplink, caplog, "CERTIFICATE_VERIFY_FAILED")
            assert uplink.stats.bytes_sent == 0


async def test_tls_refuses_a_broker_of_another_name(
    tmp_path: Path, secrets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tls_broker(tmp_path, secrets, "elsewhere") as broker:
        async with trying(tmp_path, broker.port, tls={"ca": secrets / "city.pem"}) as (rig, uplink):
            await assert_said_once(rig, uplink, caplog, "IP address mismatch")


async def test_a_ca_file_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with trying(tmp_path, 8883, tls={"ca": tmp_path / "missing.pem"}) as (rig, uplink):
        await assert_said_once(rig, uplink, caplog, "No such file")


async def test_a_broker_that_refuses_the_subscription_is_no_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the ack topic nothing would ever leave the disk, and everything would be sent for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, length = (await reader.readexactly(1))[0] >> 4, 0
                for shift in (0, 7, 14, 21):
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    if byte < 0x80:
                        break
                body = await reader.readexactly(length)
                if kind == 1:  # CONNECT -> CONNACK accepted
                    writer.write(b"\x20\x02\x00\x00")
                elif kind == 8:  # SUBSCRIBE -> SUBACK failure
                    writer.write(b"\x90\x03" + body[:2] + b"\x80")
                elif kind == 14:  # DISCONNECT
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, trying(tmp_path, server.sockets[0].getsockname()[1]) as (rig, uplink):
        await assert_said_once(
            rig, uplink, caplog, "refuses the subscription to weinao/v1/ack/test/east/first/gw-connect"
        )
        assert uplink.stats.frames_sent == 0
