"""Alerts go out over real HTTP, signed, again after failures; and figures and alerts live in a real PostgreSQL."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_kit_quality import HOUR, FakeCatalogue, FakeClock, FakeNewest, city
from postgres import PostgreSQL

from cloud.hub import quality_figures as codes
from cloud.hub.alert_rules import AlertSettings
from cloud.hub.alert_store import AlertStore
from cloud.hub.alerts import Alerts
from cloud.hub.database import Database, database_url
from cloud.hub.deliver import SIGNATURE, Deliverer
from cloud.hub.quality import Quality
from cloud.hub.quality_days import QualitySettings
from cloud.hub.quality_roster import Level
from cloud.hub.quality_store import Period
from cloud.ledger import Ledger
from contract.errors import ConfigError
from contract.topics import GatewayPath

pytestmark = pytest.mark.services

NOW_NS = 497_232 * HOUR
PATH = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-1")
SECRET = "a shared secret"  # noqa: S105 - of this test


class Receiver:
    """An HTTP server that takes POSTs. status: what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, data))
                self.send_response(receiver.status)
                if receiver.status == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with contextlib.ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(PostgreSQL(tmp_path / "postgres")).url
        made = Database(database_url(tmp_path / "hub.sqlite", url))
        stack.callback(made.close)
        made.create()
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(deliverer: Deliverer) -> AsyncIterator[None]:
    task = asyncio.create_task(deliverer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Desk:
    """Rules over one stream, with the channels of a test."""

    def __init__(self, folder: Path, database: Database, *channels: dict[str, Any]) -> None:
        rule = {
            "kind": "threshold", "name": "high", "above": 3, "duration_s": 0, "hold_s": 0, "severity": "critical",
            "select": {"quantities": ["level"]}, "deliver": [channel["name"] for channel in channels],
        }  # fmt: skip
        settings = AlertSettings.model_validate({"rules": [rule], "channels": channels})
        self.clock = FakeClock(NOW_NS)
        self.newest = FakeNewest()
        ledger = folder / "ledger.sqlite"
        Ledger(ledger).close()
        self.catalogue = FakeCatalogue(city([PATH], 2))
        self.quality = Quality(database, self.catalogue, ledger, QualitySettings(roll_up_s=0), now_ns=self.clock)
        self.store = AlertStore(database, queue=100)
        self.deliverer = Deliverer(settings, self.store, now_ns=self.clock, pause_s=0.01)
        self.alerts = Alerts(settings, self.store, self.quality, self.newest, self.deliverer, now_ns=self.clock)

    def value(self, value: float) -> None:
        self.clock.forward(1)
        now = np.array([self.clock.now_ns], dtype=np.int64)
        self.quality.observer.observe(1, now, np.zeros(1, dtype=np.uint8), self.clock.now_ns)
        self.newest.put(1, value, self.clock.now_ns)
        self.alerts.check()


def webhook(folder: Path, receiver: Receiver) -> dict[str, Any]:
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n", encoding="utf-8")
    url = f"http://{receiver.url}/hook/token-in-the-path"
    return {"kind": "webhook", "name": "hook", "url": url, "secret_file": str(secret), "timeout_s": 5}


async def test_a_webhook_is_signed_and_tried_until_it_takes_the_message(
    tmp_path: Path, database: Database, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, database, webhook(tmp_path, receiver))
    receiver.status = 302  # a redirect would carry the message to somewhere else: it is a failure
    async with running(desk.deliverer):
        await asyncio.to_thread(desk.value, 4.0)
        await until(lambda: desk.deliverer.counts["hook"].failed >= 2)
        assert desk.deliverer.counts["hook"].last_error == "HTTP 302"
        receiver.status = 200
        await until(lambda: desk.deliverer.counts["hook"].sent == 1)
        await asyncio.to_thread(desk.value, 1.0)
        await until(lambda: desk.deliverer.counts["hook"].sent == 2)
    assert {path for path, _, _ in receiver.got} == {"/hook/token-in-the-path"}
    for _, headers, data in receiver.got:
        expected = hmac.new(SECRET.encode(), data, hashlib.sha256).hexdigest()
        assert headers[SIGNATURE.lower()] == f"sha256={expected}"
    events = [json.loads(data) for _, _, data in receiver.got]
    assert [event["event"] for event in events][-2:] == ["raised", "cleared"]
    assert (events[-1]["subject"], events[-1]["value"]) == (f"{PATH}/meter/s0", 4.0)
    assert "token-in-the-path" not in caplog.text
    assert SECRET not in caplog.text
    (told,) = await asyncio.to_thread(desk.deliverer.told)
    assert (told["sent"], told["waiting"]) == (2, 0)


async def test_a_receiver_that_is_gone_costs_nobody_anything_and_leaks_nothing(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(database_url(tmp_path / "hub.sqlite"))
    database.create()
    desk = Desk(tmp_path, database, webhook(tmp_path, receiver))
    receiver.close()
    with caplog.at_level(logging.DEBUG):
        async with running(desk.deliverer):
            await asyncio.to_thread(desk.value, 4.0)
            await until(lambda: desk.deliverer.counts["hook"].failed >= 3)
    assert [alert.state for alert in desk.alerts.standing()] == ["raised"]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("cloud")]
    assert len([text for text in ours if "does not take alerts" in text]) == 1
    assert "token-in-the-path" not in "".join(ours)
    database.close()


async def test_apprise_delivers_to_a_real_target(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(database_url(tmp_path / "hub.sqlite"))
    database.create()
    urls = tmp_path / "urls"
    urls.write_text(f"# duty\njson://{receiver.url}/secret-path\n", encoding="utf-8")
    desk = Desk(tmp_path, database, {"kind": "apprise", "name": "people", "urls_file": str(urls)})
    receiver.status = 500
    with caplog.at_level(logging.DEBUG):
        async with running(desk.deliverer):
            await asyncio.to_thread(desk.value, 4.0)
            await until(lambda: desk.deliverer.counts["people"].failed >= 1)
            receiver.status = 200
            await until(lambda: desk.deliverer.counts["people"].sent == 1)
            await asyncio.to_thread(desk.value, 1.0)
            await until(lambda: desk.deliverer.counts["people"].sent == 2)
    said = [json.loads(data) for _, _, data in receiver.got]
    assert said[-2]["title"] == "[critical] raised: high"
    assert said[-2]["type"] == "failure"
    assert "responsible: Water water@city.example" in said[-2]["message"]
    assert said[-1]["type"] == "success"
    assert "secret-path" not in "".join(r.getMessage() for r in caplog.records if "urllib3" not in r.name)
    database.close()


@pytest.mark.parametrize("text", ["", "# nothing\n", "nonsense://secret-token@host\n"])
def test_addresses_that_are_none_are_said_without_being_repeated(tmp_path: Path, text: str) -> None:
    database = Database(database_url(tmp_path / "hub.sqlite"))
    urls = tmp_path / "urls"
    urls.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Desk(tmp_path, database, {"kind": "apprise", "name": "people", "urls_file": str(urls)})
    assert "channel people: urls_file" in str(caught.value)
    assert "secret-token" not in str(caught.value)
    database.close()


def test_figures_corrections_and_alerts_in_both_databases(tmp_path: Path, database: Database) -> None:
    desk = Desk(tmp_path, database, {"kind": "mqtt", "name": "duty"})
    store, start, names = desk.quality.store, NOW_NS // HOUR - 30, [PATH, *[f"gateway-{at}" for at in range(600)]]

    def books(received: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        rows = [(1, codes.SHOULD, 60), (1, codes.RECEIVED, received), (1, codes.MISSING, 60 - received)]
        return codes.merge([np.array(rows, dtype=np.int64)])

    now_ns = desk.clock.now_ns
    assert len(store.put_books({(start, str(name)): books(50) for name in names}, now_ns)) == 601
    assert store.put_books({(start, str(name)): books(50) for name in names}, now_ns) == []
    store.add_seen({(start, str(PATH)): np.array([(1, 0, 7)])}, "12", now_ns)
    store.add_seen({(start, str(PATH)): np.array([(1, 0, 5)])}, "13", now_ns)
    while store.roll_up(now_ns):
        pass
    store.close(now_ns)
    store.put_books({(start, str(PATH)): books(60)}, now_ns + 1)
    while store.roll_up(now_ns + 2):
        pass
    assert store.position() == "13"
    (group, _) = desk.quality.figures(Level.STREAM, Period.DAY, start, desk.catalogue.all())
    assert (group.figures.completeness, group.figures.count(0), group.corrected_ns) == (1.0, 12, now_ns + 2)
    assert group.former is not None
    assert group.former.count(codes.RECEIVED) == 50
    assert len(store.read(Period.DAY, [desk.quality.calendar.start_of(Period.DAY, start)])) == 601
    assert store.forget(str(PATH), [1]) == 3
    for value in (4.0, 1.0, 5.0):
        desk.value(value)
    (standing,) = desk.alerts.standing()
    desk.alerts.acknowledge(standing.id, "t Water", "seen")
    desk.alerts.silence(standing.id, now_ns + HOUR, "t Water", "quiet")
    assert [alert.value for alert in desk.alerts.cleared(before_id=None, limit=10)] == [4.0]
    stored = desk.alerts.get(standing.id)
    assert stored is not None
    assert (stored.state, stored.value, stored.silenced_by) == ("acknowledged", 5.0, "t Water")
    desk.store.forget(before_ns=now_ns + 2 * HOUR, keep=10)
    assert desk.alerts.cleared(before_id=None, limit=10) == []
