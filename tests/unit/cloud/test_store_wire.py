"""A scripted server at the wire: what each HTTP answer makes of a write."""

import asyncio
import contextlib
import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cloud.stores.base import FramePoints, Selector, Series
from cloud.stores.http import answer_of
from cloud.stores.influx1 import InfluxV1Store
from cloud.stores.influx2 import InfluxV2Store
from cloud.stores.line_store import WRITERS, LineStore
from contract.errors import ConfigError, PartialWrite, StoreUnavailable
from contract.readings import Kind, Table
from contract.topics import GatewayPath

PATH = GatewayPath("c", "d", "s", "g")
Reply = tuple[int, dict[str, str], bytes]
Script = Callable[[list[bytes]], Reply]
OK: Reply = (204, {}, b"")
TAGS = '{"gateway":"g","device":"D","stream":"S"}'


class Wire:
    """An HTTP server that answers each write as `script` says, and keeps the bodies it saw."""

    def __init__(self) -> None:
        self.script: Script = lambda _: OK
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer, else the client waits for a delayed acknowledgement

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                wire.bodies.append(body)
                wire.paths.append(self.path)
                wire.headers.append({name.lower(): value for name, value in self.headers.items()})
                lines = [line for line in body.split(b"\n") if line and not line.startswith(b"#")]
                code, headers, text = wire.script(lines)
                with contextlib.suppress(OSError):  # the client may be gone
                    self.send_response(code)
                    for name, value in ({"Content-Length": str(len(text))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    server = Wire()
    yield server
    server.stop()


@pytest.fixture(params=["v1", "v2"])
def make(request: pytest.FixtureRequest, wire: Wire) -> Callable[..., LineStore]:
    def make(**options: object) -> LineStore:
        if request.param == "v1":
            return InfluxV1Store(wire.url, "db", "u", "p", **options)  # type: ignore[arg-type]
        return InfluxV2Store(wire.url, "org", "db", "secret", **options)  # type: ignore[arg-type]

    return make


def frame(rows: int, *, quantity: str = "q", first: int = 0) -> FramePoints:
    series = Series(PATH, "D", "S", quantity, "1", Kind.INT)
    values = np.arange(first, first + rows).reshape(rows, 1)
    table = Table(
        Kind.INT, np.array([1], np.int32), np.arange(first, first + rows), values, np.zeros((rows, 1), np.uint8)
    )
    return FramePoints(PATH, 1, 1, (table,), ((series,),))


@pytest.mark.parametrize(
    ("reply", "retry_after_s", "said"),
    [
        ((503, {"Retry-After": "7"}, b'{"error":"timeout"}'), 7.0, "timeout"),
        ((429, {"Retry-After": "0.5"}, b'{"code":"too many requests","message":"slow down"}'), 0.5, "slow down"),
        ((429, {"Retry-After": "999999"}, b""), 3600.0, "429"),
        ((502, {}, b"<html><title>502 Bad Gateway</title></html>"), None, "502 Bad Gateway"),
        ((500, {"Retry-After": "soon"}, b""), None, "500"),
        ((401, {}, b'{"error":"authorization failed"}'), None, "credentials"),
        ((403, {}, b'{"error":"forbidden"}'), None, "does not allow"),
        ((404, {}, b'{"error":"database not found"}'), None, "database not found"),
        ((301, {"Location": "http://127.0.0.1:1/"}, b""), None, "301"),
        (
            (400, {}, b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"),
            None,
            "plain HTTP",
        ),
    ],
)
async def test_an_answer_that_says_nothing_of_the_points_rejects_none(
    wire: Wire,
    make: Callable[..., LineStore],
    reply: Reply,
    retry_after_s: float | None,
    said: str,
) -> None:
    store = make()
    wire.script = lambda _: reply
    with pytest.raises(StoreUnavailable, match=said) as refusal:
        await store.write([frame(3)])
    assert refusal.value.retry_after_s == retry_after_s
    assert len(wire.bodies) == 1  # nothing retries behind the caller's back
    await store.close()


def test_retry_after_may_be_a_date() -> None:
    answer = answer_of(503, b"", "Sun, 06 Nov 1994 08:49:37 GMT", wall=lambda: 784111777.0 - 42)
    assert answer.retry_after_s == 42
    assert answer_of(503, b"", "nan").retry_after_s is None
    assert answer_of(503, b"", "-5").retry_after_s == 0


async def test_precision_and_credentials_are_always_sent(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make(gzip=True)
    await store.open()
    await store.write([frame(1)])
    assert wire.bodies == [b"# weinao\n", b"q,city=c,device=D,district=d,gateway=g,stream=S,street=s count=0i 0"]
    assert all(re.search(r"precision=(n|ns)(&|$)", path) for path in wire.paths)
    assert {sent["authorization"] for sent in wire.headers} <= {"Token secret", "Basic dTpw"}
    await store.close()


async def test_batches_are_full_and_even(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make(batch_lines=100)
    await store.write([frame(30, first=1), frame(30, first=2), frame(30, first=3), frame(30, first=4), frame(250)])
    sizes = sorted(len(body.split(b"\n")) for body in wire.bodies)  # several requests are under way at once
    assert sizes == [30, 83, 83, 84, 90]
    await store.write([])
    assert len(wire.bodies) == 5
    await store.close()


async def test_a_write_keeps_several_requests_under_way(wire: Wire, make: Callable[..., LineStore]) -> None:
    """The database has the next batch while it syncs the one before; all answers are waited for."""
    store = make(batch_lines=100)
    together = threading.Barrier(WRITERS, timeout=10)

    def script(_: list[bytes]) -> Reply:
        together.wait()
        return OK

    wire.script = script
    await store.write([frame(100, first=100 * number) for number in range(2 * WRITERS)])
    lines = [line for body in wire.bodies for line in body.split(b"\n")]
    assert len(wire.bodies) == 2 * WRITERS
    assert len(set(lines)) == len(lines) == 200 * WRITERS
    await store.close()


async def test_after_a_refusal_no_further_batch_is_sent(wire: Wire, make: Callable[..., LineStore]) -> None:
    """Requests already under way end before the caller hears of it, so a second try never meets the first."""
    store = make(batch_lines=100)
    under_way = threading.Semaphore(0)
    ended: list[int] = []

    def script(lines: list[bytes]) -> Reply:
        if lines[0].endswith(b" 0"):
            for _ in range(WRITERS - 1):
                assert under_way.acquire(timeout=10)
            return 503, {}, b""
        under_way.release()
        time.sleep(0.1)  # a slow database: the refusal overtakes this answer
        ended.append(1)
        return OK

    wire.script = script
    with pytest.raises(StoreUnavailable):
        await store.write([frame(100, first=100 * number) for number in range(50)])
    assert len(ended) == WRITERS - 1
    assert len(wire.bodies) == WRITERS
    await store.close()


async def test_a_cancelled_write_takes_no_further_batch(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make(batch_lines=100)
    release = threading.Event()

    def script(_: list[bytes]) -> Reply:
        release.wait(10)
        return OK

    wire.script = script
    writing = asyncio.create_task(store.write([frame(100, first=100 * number) for number in range(50)]))
    async with asyncio.timeout(10):
        while len(wire.bodies) < WRITERS:  # noqa: ASYNC110 - the condition is a number
            await asyncio.sleep(0.001)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    release.set()
    await store.close()
    assert len(wire.bodies) == WRITERS


async def test_a_body_too_large_is_cut_until_it_fits(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make()
    stored: set[bytes] = set()

    def script(lines: list[bytes]) -> Reply:
        if len(lines) > 60 or any(line.endswith(b" 7") for line in lines):
            return 413, {}, b'{"error":"Request Entity Too Large"}'
        stored.update(lines)
        return OK

    wire.script = script
    with pytest.raises(PartialWrite) as refusal:
        await store.write([frame(200)])
    assert [(one.time_ns, one.reason) for one in refusal.value.rejected] == [(7, "larger than the database accepts")]
    assert len(stored) == 199
    await store.close()


@pytest.mark.parametrize("keeps_the_good", [True, False])
async def test_the_guilty_are_found_whether_or_not_the_server_kept_the_good(
    wire: Wire,
    make: Callable[..., LineStore],
    keeps_the_good: bool,  # noqa: FBT001  a case of the table
) -> None:
    store = make()
    stored: set[bytes] = set()
    guilty = re.compile(rb"count=(13|14|777)i")

    def script(lines: list[bytes]) -> Reply:
        bad = [line for line in lines if guilty.search(line)]
        if not bad or keeps_the_good:
            stored.update(line for line in lines if line not in bad)
        return (400, {}, b'{"code":"invalid","message":"unable to parse: bad"}') if bad else OK

    wire.script = script
    with pytest.raises(PartialWrite) as refusal:
        await store.write([frame(500), frame(500, first=500)])
    assert [one[:3] for one in refusal.value.rejected] == [(0, 1, 13), (0, 1, 14), (1, 1, 777)]
    assert len(stored) == 997
    assert len(wire.bodies) < 60
    await store.close()


async def test_a_conflict_of_a_whole_measurement_costs_a_few_requests(
    wire: Wire, make: Callable[..., LineStore]
) -> None:
    store = make()

    def script(lines: list[bytes]) -> Reply:
        bad = [line for line in lines if line.startswith(b"flow,")]
        text = b'{"error":"partial write: field type conflict: is type integer dropped=%d"}' % len(bad)
        return (400, {}, text) if bad else OK

    wire.script = script
    with pytest.raises(PartialWrite) as refusal:
        await store.write([frame(1000), frame(1000, quantity="flow"), frame(1000, quantity="level")])
    assert len(refusal.value.rejected) == 1000
    assert {one.frame for one in refusal.value.rejected} == {1}
    assert {one.reason for one in refusal.value.rejected} == {"field type conflict: is type integer"}
    assert len(wire.bodies) == 4
    await store.close()


async def test_a_database_lost_in_the_middle_of_a_search_rejects_nothing(
    wire: Wire, make: Callable[..., LineStore]
) -> None:
    store = make()
    wire.script = lambda lines: (400, {}, b'{"error":"x"}') if len(lines) > 2 else (503, {}, b"")
    with pytest.raises(StoreUnavailable):
        await store.write([frame(10)])
    await store.close()


async def test_opening_what_can_never_work(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make()
    wire.script = lambda _: (404, {}, b'{"error":"not here"}')
    with pytest.raises(ConfigError, match="not here"):
        await store.open()
    wire.script = lambda _: (200, {}, b"<html>a login page</html>")
    with pytest.raises(StoreUnavailable):
        await store.count(Selector())
    await store.close()


async def test_silence_and_a_closed_port_are_unavailable(wire: Wire, make: Callable[..., LineStore]) -> None:
    store = make(timeout_s=0.2)
    release = threading.Event()

    def script(_: list[bytes]) -> Reply:
        release.wait(10)
        return OK

    wire.script = script
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.write([frame(1)])
    assert time.monotonic() - began < 5
    release.set()
    await store.close()
    closed = InfluxV2Store("http://127.0.0.1:1", "", "b")
    with pytest.raises(StoreUnavailable):
        await closed.open()
    await closed.close()


async def test_a_delete_of_the_v2_api_names_one_series_to_the_nanosecond(wire: Wire) -> None:
    """InfluxDB 2 is not on this machine: what is asked is checked here, that it is believed only when read back too."""
    left = {"points": 3}

    def script(lines: list[bytes]) -> Reply:
        if wire.paths[-1].startswith("/api/v2/delete"):
            left["points"] = 0
            return OK
        assert b"q=SELECT" in lines[0]
        groups = f',"series":[{{"name":"q","tags":{TAGS},"columns":[],"values":[[0,0,{left["points"]},0,0,0]]}}]'
        return 200, {}, f'{{"results":[{{"statement_id":0{groups if left["points"] else ""}}}]}}'.encode()

    wire.script = script
    store = InfluxV2Store(wire.url, "org", "db", "secret")
    assert await store.delete(Series(PATH, 'D"1', "S\\", "q", "1", Kind.INT), before_ns=1_000_000_001) == 3
    [asked] = [body for path, body in zip(wire.paths, wire.bodies, strict=True) if path.startswith("/api/v2/delete")]
    assert json.loads(asked) == {
        "start": "1677-09-21T00:12:43.145224194Z",
        "stop": "1970-01-01T00:00:01.000000000Z",  # the last nanosecond that goes
        "predicate": r"""_measurement="q" AND city="c" AND district="d" AND street="s" AND gateway="g" """
        r'''AND device="D\"1" AND stream="S\\"''',
    }
    await store.close()


async def test_a_delete_that_left_something_is_no_success(wire: Wire) -> None:
    body = f'{{"results":[{{"series":[{{"name":"q","tags":{TAGS},"columns":[],"values":[[0,0,3,0,0,0]]}}]}}]}}'.encode()
    wire.script = lambda _: OK if wire.paths[-1].startswith("/api/v2/delete") else (200, {}, body)
    store = InfluxV2Store(wire.url, "org", "db", "secret")
    with pytest.raises(StoreUnavailable, match="3 points are still there"):
        await store.delete(Series(PATH, "D", "S", "q", "1", Kind.INT))
    await store.close()
