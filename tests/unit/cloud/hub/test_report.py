"""The daily report names who has to do what, cannot be made to run anything, and says what was corrected."""

import csv
import io
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hub_kit_quality import HOUR, FakeCatalogue, FakeClock, FakeNewest, FakeTrail, city, make_entry

from cloud.hub import quality_figures as codes
from cloud.hub.access import Reader, Role
from cloud.hub.alert_rules import AlertSettings
from cloud.hub.alert_store import AlertStore
from cloud.hub.alerts import Alerts
from cloud.hub.api_alerts import router as alerts_router
from cloud.hub.api_quality import router as quality_router
from cloud.hub.app import create_app
from cloud.hub.database import Database, database_url
from cloud.hub.deliver import Deliverer
from cloud.hub.entries import Entry
from cloud.hub.parts import Hub
from cloud.hub.quality import Quality
from cloud.hub.quality_days import QualitySettings
from cloud.hub.report import Report, gather
from cloud.hub.report_words import Language
from cloud.hub.report_write import csv_of, html_of
from cloud.hub.times import format_time
from contract.catalogue import Grade
from contract.readings import Ints, Reason
from contract.topics import GatewayPath

DAY = date(2026, 9, 22)
START_HOUR = 497_224  # midnight in Shanghai
PATH = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-1")
OTHER = GatewayPath("Changzhou", "Wujin", "Lake Road", "gw-2")
HOSTILE = '<script>alert("1")</script>'


def books(number: int, should: int, received: int, code: int = codes.EXPLAINED + Reason.TIMEOUT) -> Ints:
    found = [
        (number, codes.EXPECTED, should), (number, codes.SHOULD, should), (number, codes.RECEIVED, received),
        (number, codes.MISSING, should - received), (number, code, should - received),
    ]  # fmt: skip
    return codes.merge([np.array(found, dtype=np.int64)])


class Town:
    """Figures put straight into the database: three streams of two departments, one of them hostile."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock((START_HOUR + 26) * HOUR)
        self.entries: list[Entry] = [
            *city([PATH], 2),
            make_entry(3, OTHER, "s9", owner="=cmd|' /C calc'!A0", contact=HOSTILE, grade=Grade.RESTRICTED),
        ]
        self.catalogue = FakeCatalogue(self.entries)
        self.database = Database(database_url(folder / "hub.sqlite"))
        self.database.create()
        settings = QualitySettings(zone="Asia/Shanghai")
        self.quality = Quality(self.database, self.catalogue, folder / "none", settings, now_ns=self.clock)
        for hour in range(24):
            good = 3600 if hour not in (9, 10, 11, 12) else 0
            self.put(hour, PATH, books(1, 3600, good), books(2, 3600, 3600))
            self.put(hour, OTHER, books(3, 60, 0, codes.AWAITED))
        seen = np.array([(2, 0, 500), (2, 0x83, 500), (1, 0, 999), (1, codes.LATENCY + 40, 999)], dtype=np.int64)
        self.quality.store.add_seen({(START_HOUR + 5, str(PATH)): codes.merge([seen])}, "", self.clock.now_ns)
        self.settle()

    def put(self, hour: int, path: GatewayPath, *tallies: Ints) -> None:
        self.quality.store.put_books({(START_HOUR + hour, str(path)): codes.merge(tallies)}, self.clock.now_ns)

    def settle(self) -> None:
        while self.quality.store.roll_up(self.clock.now_ns):
            pass
        self.quality.store.close(self.clock.now_ns)

    def report(self, day: date = DAY) -> Report:
        return gather(self.quality, day, self.entries, self.clock.now_ns)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_each_failing_stream_with_reason_since_when_and_whom_to_call(town: Town) -> None:
    report = town.report()
    assert report.final
    rows = {one.entry.number: one for one in report.failing}
    assert sorted(rows) == [1, 2, 3]
    html = html_of(report, Language.ENGLISH)
    assert "83.3 % of what should have come was received; 14,400 samples are missing" in html
    assert "mostly: the device did not answer in time (14,400)" in html
    assert "2026-09-22 09:00" in html  # hour 9 in the city's own time
    assert "only 50.0 % of its readings are good; mostly: the value has not changed for too long (500)" in html
    assert "nothing was received all day; 1,440 samples are missing; mostly: nothing was heard" in html
    assert "water@city.example" in html
    assert [(group.name, group.figures.streams) for group in report.districts] == [
        ("Changzhou/Wujin", 1), ("Changzhou/Xinbei", 2),
    ]  # fmt: skip
    assert report.total.count(codes.SHOULD) == 24 * (3600 * 2 + 60)


def test_chinese(town: Town) -> None:
    html = html_of(town.report(), Language.CHINESE)
    assert 'lang="zh-CN"' in html
    for text in ("数据质量日报 2026-09-22", "仅收到应收数据的 83.3 %，缺失 14,400 条", "设备应答超时", "按责任部门"):
        assert text in html
    assert "is missing" not in html


def test_hostile_names_neither_run_in_a_browser_nor_in_a_spreadsheet(town: Town) -> None:
    html = html_of(town.report(), Language.ENGLISH)
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href|url)\s*[=(]", html)  # nothing is fetched
    for row in csv.reader(io.StringIO(csv_of(town.report(), Language.ENGLISH))):
        assert not [cell for cell in row if cell.lstrip("\ufeff").startswith(("=", "+", "-", "@"))]


def test_a_late_backfill_is_a_correction_in_todays_report_and_in_that_days(town: Town) -> None:
    town.clock.forward(24 * 3600)
    for hour in (9, 10, 11, 12):
        town.put(hour, PATH, books(1, 3600, 3600), books(2, 3600, 3600))
    town.settle()
    for day in (DAY, date(2026, 9, 24)):
        report = town.report(day)
        assert [one.entry.number for one in report.corrections] == ([1] if day == DAY else [])
    town.put(24, PATH, books(1, 3600, 3600))
    town.put(48, PATH, books(1, 3600, 3600))
    town.settle()
    (change,) = town.report(date(2026, 9, 24)).corrections
    assert change.former.completeness == pytest.approx(20 / 24)
    assert change.now.completeness == 1.0
    text = csv_of(town.report(), Language.ENGLISH)
    assert "0.8333,1.0000" in text
    assert 1 not in {one.entry.number for one in town.report().failing}


def test_since_when_looks_back_over_days(town: Town) -> None:
    for hour in range(24, 48):
        town.put(hour, OTHER, books(3, 60, 0, codes.AWAITED))
        town.put(hour, PATH, books(1, 3600, 3600 if hour < 40 else 100))
    town.clock.forward(24 * 3600)
    town.settle()
    since = {
        one.entry.number: (one.since_hour - START_HOUR, one.before) for one in town.report(date(2026, 9, 23)).failing
    }
    assert since == {1: (40, False), 3: (0, False)}


def test_a_day_without_figures_is_a_report_that_says_so(town: Town) -> None:
    html = html_of(town.report(date(2020, 1, 1)), Language.ENGLISH)
    assert "every stream met its targets" in html


READERS = {
    "water": Reader("t1", "Water", "test"),
    "roads": Reader("t2", "Roads", "test"),
    "admin": Reader("t3", "IT", "test", Role.ADMIN),
    "wujin": Reader("t4", "IT", "test", Role.OPERATOR, ("Changzhou/Wujin",)),
}


class Tokens:
    """The name of a reader is its secret."""

    async def reader_of(self, secret: str, _: str) -> Reader | None:
        return READERS.get(secret)


@pytest.fixture
def app(town: Town, tmp_path: Path) -> Iterator[FastAPI]:
    hub = Hub(town.catalogue, FakeNewest(), None, None, FakeTrail(), Tokens(), tmp_path / "none")  # type: ignore[arg-type]
    made = create_app(hub, [quality_router, alerts_router], version="0")
    rule = {"kind": "birth_refused", "name": "lies", "duration_s": 0, "hold_s": 0}
    settings = AlertSettings.model_validate({"rules": [rule]})
    store = AlertStore(town.database, queue=10)
    deliverer = Deliverer(settings, store)
    made.state.quality = town.quality
    made.state.alerts = Alerts(settings, store, town.quality, FakeNewest(), deliverer)
    yield made
    town.database.close()


async def ask(app: FastAPI, who: str, address: str, body: dict[str, object] | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {who}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        return await (client.get(address) if body is None else client.post(address, json=body))


async def test_figures_of_closed_streams_are_for_their_department_and_operators(app: FastAPI) -> None:
    address = "/api/v1/quality?level=stream&at=2026-09-22T00:00:00Z"
    for who, numbers in (("water", 2), ("roads", 2), ("admin", 3), ("wujin", 1)):
        answer = await ask(app, who, address)
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == numbers, who
    (item,) = (await ask(app, "wujin", address)).json()["items"]
    assert (item["expected"], item["completeness"], item["awaited"]) == (1440, 0.0, 1440)
    assert (item["age_s"], item["interval_s"]) == (None, 1.0)


async def test_pages_and_levels(app: FastAPI) -> None:
    address = "/api/v1/quality?level=stream&period=day&at=2026-09-22T00:00:00Z&limit=1"
    first = (await ask(app, "admin", address)).json()
    second = (await ask(app, "admin", f"{address}&after={first['next']}")).json()
    assert first["from"] == "2026-09-21T16:00:00.000000000Z"
    assert first["items"][0]["name"] < second["items"][0]["name"]
    groups = (await ask(app, "admin", "/api/v1/quality?level=department&at=2026-09-22T00:00:00Z")).json()["items"]
    assert [group["streams"] for group in groups] == [1, 2]
    water = groups[1]
    assert (water["failing"], water["missing"]) == (1, 14_400)
    assert water["completeness"] == pytest.approx(1 - 14_400 / (48 * 3600), abs=1e-6)
    assert water["timeliness"]["p50_s"] == pytest.approx(1.024)
    assert water["validity"]["reasons"] == {"stuck": 500}
    one = "/api/v1/quality?level=gateway&area=Changzhou/Xinbei&stream=*s1&at=2026-09-22T00:00:00Z"
    assert [item["streams"] for item in (await ask(app, "admin", one)).json()["items"]] == [1]


@pytest.mark.parametrize(
    ("address", "parameter"),
    [
        ("/api/v1/quality?level=planet", "level"),
        ("/api/v1/quality?at=yesterday", "at"),
        ("/api/v1/quality?at=1", "at"),
        ("/api/v1/quality?area=a/b/c/d", "area"),
        ("/api/v1/quality?stream=%00", "stream"),
        ("/api/v1/quality?limit=0", "limit"),
        ("/api/v1/quality/report?day=1899-01-01", "day"),
        ("/api/v1/quality/report?day=tomorrow", "day"),
        ("/api/v1/alerts?severity=loud", "severity"),
    ],
)
async def test_bad_queries_name_the_parameter(app: FastAPI, address: str, parameter: str) -> None:
    answer = await ask(app, "admin", address)
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter


async def test_the_report_over_http_may_show_its_style_and_nothing_else(app: FastAPI) -> None:
    answer = await ask(app, "wujin", "/api/v1/quality/report?day=2026-09-22&lang=zh")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "water@city.example" not in answer.text
    table = await ask(app, "admin", "/api/v1/quality/report?day=2026-09-22&format=csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert (await ask(app, "admin", "/api/v1/quality/report?day=2100-01-01")).status_code == 404


async def test_operators_take_alerts_on_and_readers_do_not(app: FastAPI) -> None:
    alerts: Alerts = app.state.alerts
    alerts.birth_refused(PATH, "a lie")
    alerts.check()
    (item,) = (await ask(app, "admin", "/api/v1/alerts")).json()["items"]
    assert item["subject"] == {"kind": "gateway", "name": str(PATH)}
    assert (await ask(app, "wujin", "/api/v1/alerts")).json()["items"] == []
    address = f"/api/v1/alerts/{item['id']}"
    assert (await ask(app, "water", f"{address}/acknowledge", {"comment": "?"})).status_code == 403
    assert (await ask(app, "wujin", f"{address}/acknowledge", {})).status_code == 404
    taken = await ask(app, "admin", f"{address}/acknowledge", {"comment": "called them"})
    assert taken.json()["acknowledged_by"] == "t3 IT"
    assert (await ask(app, "admin", f"{address}/silence", {"until": "2020-01-01T00:00:00Z"})).status_code == 400
    until = format_time(time.time_ns() + HOUR)
    silenced = await ask(app, "admin", f"{address}/silence", {"until": until, "comment": "known"})
    assert silenced.json()["silenced_until"] == until
    assert (await ask(app, "admin", "/api/v1/alerts?state=acknowledged")).json()["items"][0]["comment"] == "called them"
    alerts.birth_taken(PATH)
    alerts.check()
    (item,) = (await ask(app, "admin", "/api/v1/alerts?state=cleared&area=Changzhou/Xinbei")).json()["items"]
    assert item["cleared_at"] is not None
    trail: FakeTrail = app.state.hub.trail
    assert [action for _, action, _, _ in trail.lines][:2] == ["alert.acknowledge", "alert.silence"]
    assert (await ask(app, "admin", "/api/v1/alerts/channels")).json()["items"] == []
