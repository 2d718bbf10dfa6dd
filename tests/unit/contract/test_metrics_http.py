"""The metrics' HTTP server: it answers Prometheus, and nobody else gets anything or takes anything away."""

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from metrics_page import happens

from contract.errors import ConfigError
from contract.metrics_config import Metrics
from contract.metrics_http import MAX_CONNECTIONS, MAX_HEADER_BYTES, MAX_LINE_BYTES, MetricsServer, serve

PAGE = b"# TYPE one gauge\none 1\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


async def page() -> bytes:
    return PAGE


def settings(**more: Any) -> Metrics:
    return Metrics.model_validate({"port": 0, **more})


async def send(server: MetricsServer, request: bytes, **more: Any) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **more)
    try:
        writer.write(request)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, head, body


async def test_a_scrape_gets_the_page_and_nothing_is_kept_open() -> None:
    async with serve(settings(), page) as server:
        status, head, body = await send(server, GET)
        assert (status, body) == (200, PAGE)
        assert b"text/plain; version=0.0.4; charset=utf-8" in head
        assert b"Connection: close" in head
        status, head, body = await send(server, GET.replace(b"GET", b"HEAD"))
        assert (status, body) == (200, b"")
        assert f"Content-Length: {len(PAGE)}".encode() in head
        status, _, body = await send(server, b"GET /metrics?name[]=one HTTP/1.0\r\n\r\n")
        assert (status, body) == (200, PAGE)
        assert server.answers == {200: 3}
        assert server.told() == {"address": "127.0.0.1", "port": server.port, "path": "/metrics", "problem": None}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../status HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * MAX_LINE_BYTES + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + (b"X: " + b"a" * 4000 + b"\r\n") * (MAX_HEADER_BYTES // 4000 + 1), 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, 431),
        (b"A" * 60_000, 414),
    ],
)
async def test_what_is_no_scrape_is_told_so(request_: bytes, expected: int) -> None:
    async with serve(settings(), page) as server:
        status, head, body = await send(server, request_)
        assert status == expected
        assert len(body) < 100
        assert (b"Allow: GET, HEAD" in head) is (expected == 405)
        assert (await send(server, GET))[0] == 200
        assert server.answers == {expected: 1, 200: 1}


async def test_a_peer_that_says_nothing_or_leaves_costs_nothing() -> None:
    async with serve(settings(), page, request_s=0.2) as server:
        for part in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: h\r\n"):
            assert (await send(server, part))[0] == 408
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(part)
            writer.close()
            await writer.wait_closed()
        assert (await send(server, GET))[0] == 200
        assert server.answers == {408: 3, 200: 1}


async def test_connections_are_bounded_and_freed() -> None:
    async with serve(settings(), page, request_s=0.3) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MAX_CONNECTIONS)]
        assert (await send(server, GET))[0] == 503
        async with asyncio.timeout(10):
            for reader, writer in silent:
                assert (await reader.read()).startswith(b"HTTP/1.1 408")
                writer.close()
            while (await send(server, GET))[0] != 200:
                pass


async def test_the_end_waits_for_no_peer() -> None:
    started = asyncio.Event()

    async def never() -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    async with asyncio.timeout(5):
        async with serve(settings(), never) as server:
            silent = await asyncio.open_connection("127.0.0.1", server.port)
            asking = asyncio.create_task(send(server, GET))
            await started.wait()
        assert (await asking)[0] == 0
        silent[1].close()


async def test_with_a_password_only_who_knows_it_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "password").write_text("s3cret: ä\n", encoding="utf-8")

    def asked(token: str, scheme: str = "Basic") -> bytes:
        credentials = b64encode(token.encode()).decode()
        return f"GET /metrics HTTP/1.1\r\nAuthorization: {scheme} {credentials}\r\n\r\n".encode()

    async with serve(settings(password_file=tmp_path / "password"), page) as server:
        for request in (GET, GET.replace(b"/metrics", b"/secret"), asked("prometheus:wrong"), asked("x", "Bearer")):
            status, head, body = await send(server, request)
            assert (status, b"s3cret" in head + body) == (401, False)
            assert b"WWW-Authenticate: Basic" in head
        assert (await send(server, asked("prometheus:s3cret: ä")))[2] == PAGE
        assert (await send(server, asked("prometheus:s3cret: ä", "basic")))[2] == PAGE
        assert "s3cret" not in str(server.told())
    assert "s3cret" not in caplog.text


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """A certificate for this machine, and its key."""
    files = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=gw", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(files["key"]), "-out", str(files["cert"])]
    subprocess.run(command, check=True, capture_output=True)
    return files


async def test_tls_shows_the_page_to_who_trusts_the_certificate(certificate: dict[str, Path]) -> None:
    async with serve(settings(tls=certificate), page, request_s=1) as server:
        trusting = ssl.create_default_context(cafile=str(certificate["cert"]))
        assert (await send(server, GET, ssl=trusting))[2] == PAGE
        assert (await send(server, GET))[0] == 0, "plain HTTP gets nothing"
        assert (await send(server, GET, ssl=trusting))[2] == PAGE


async def test_a_port_that_is_taken_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with serve(settings(port=port), page, retry_s=0.05) as server:
            assert server.port is None
            assert str(port) in server.told()["problem"]
            await asyncio.sleep(0.2)
            other.close()
            await happens(lambda: not server.problem)
            assert (await send(server, GET))[2] == PAGE
            assert server.told()["problem"] is None
    levels = [record.levelno for record in caplog.records if record.name == "contract.metrics_http"]
    assert levels == [logging.WARNING, logging.INFO], "once when it starts, once when it ends"


async def test_a_port_that_never_comes_free_does_not_hold_up_the_end() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with asyncio.timeout(5), serve(settings(port=other.getsockname()[1]), page) as server:
            assert server.port is None


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff\xfe"])
async def test_a_password_file_that_gives_none_stops_the_start(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"metrics.password_file: .*password"):
        async with serve(settings(password_file=path), page):
            pass


async def test_certificates_that_are_none_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("not PEM", encoding="utf-8")
    tls = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    with pytest.raises(ConfigError, match="no certificate and key"):
        async with serve(settings(tls=tls), page):
            pass


def test_who_does_not_ask_for_metrics_does_not_pay_for_them() -> None:
    for program, word in (("gateway", "metrics_"), ("gateway", "prometheus"), ("cloud.run", "prometheus")):
        command = f"import {program}, sys; print(sorted(name for name in sys.modules if '{word}' in name))"
        answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == ("['contract.metrics_config']" if word == "metrics_" else "[]")
