"""Alerts: a swinging signal rings once, a dark gateway is one alert, and a restart or a kill changes nothing."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_kit_quality import HOUR, SECOND, FakeCatalogue, FakeClock, FakeNewest, city

from cloud.hub.access import Reader, Role
from cloud.hub.alert_rules import AlertSettings
from cloud.hub.alert_store import AlertStore, messages_about
from cloud.hub.alerts import Alerts
from cloud.hub.api_alerts import may_see
from cloud.hub.certificates import not_after_ns
from cloud.hub.database import Database, database_url
from cloud.hub.deliver import Deliverer, Undelivered
from cloud.hub.quality import Quality
from cloud.hub.quality_days import QualitySettings
from cloud.ledger import Ledger
from cloud.ledger_hours import GatewayState
from contract.catalogue import Grade
from contract.topics import GatewayPath

NOW_NS = 497_232 * HOUR
GATEWAYS = [GatewayPath("Changzhou", "Xinbei", "Taihu Road", f"gw-{number}") for number in range(3)]
FAR = GatewayPath("Changzhou", "Wujin", "Lake Road", "gw-far")
DUTY = {"kind": "mqtt", "name": "duty"}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
        await asyncio.sleep(0.005)


class Desk:
    """The engine over a town in memory, with a clock that a test moves."""

    def __init__(self, folder: Path, *rules: dict[str, Any], channels: list[dict[str, Any]] | None = None) -> None:
        made = [rule if "deliver" in rule else rule | {"deliver": ["duty"]} for rule in rules]
        self.settings = AlertSettings.model_validate({"rules": made, "channels": channels or [DUTY]})
        self.clock = FakeClock(NOW_NS)
        self.catalogue = FakeCatalogue()
        self.newest = FakeNewest()
        self.database = Database(database_url(folder / "hub.sqlite"))
        self.database.create()
        self.file = folder / "ledger.sqlite"
        Ledger(self.file).close()
        self.sent: list[tuple[str, bytes]] = []
        self.broken = False
        self.start()

    def start(self) -> None:
        self.quality = Quality(self.database, self.catalogue, self.file, QualitySettings(), now_ns=self.clock)
        self.quality.recall(self.newest)
        self.store = AlertStore(self.database, queue=self.settings.queue)

        async def publish(topic: str, data: bytes) -> None:
            if self.broken:
                raise Undelivered("away")
            self.sent.append((topic, data))

        self.deliverer = Deliverer(self.settings, self.store, publish=publish, now_ns=self.clock, pause_s=0.001)
        self.alerts = Alerts(
            self.settings, self.store, self.quality, self.newest, self.deliverer, now_ns=self.clock
        )  # fmt: skip

    def hear(self, *numbers: int, value: float = 1.0) -> None:
        for number in numbers:
            now = np.array([self.clock.now_ns], dtype=np.int64)
            self.quality.observer.observe(number, now, np.zeros(1, dtype=np.uint8), self.clock.now_ns)
            self.newest.put(number, value, self.clock.now_ns)

    def pass_time(self, seconds: int, *numbers: int, value: float = 1.0, step: int = 1) -> list[str]:
        """Look every `step` seconds while these streams are heard; the subjects that stood at any time."""
        stood: set[str] = set()
        for _ in range(0, seconds, step):
            self.clock.forward(step)
            self.hear(*numbers, value=value)
            self.alerts.check()
            stood |= {alert.subject.name for alert in self.alerts.standing()}
        return sorted(stood)

    def subjects(self) -> list[str]:
        return [alert.subject.name for alert in self.alerts.standing()]

    def every(self) -> int:
        return len(self.alerts.cleared(before_id=None, limit=1000)) + len(self.alerts.standing())

    async def delivered(self, count: int) -> None:
        task = asyncio.create_task(self.deliverer.run())
        try:
            async with asyncio.timeout(10):
                await until(lambda: len(self.sent) >= count)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


THRESHOLD = {
    "kind": "threshold", "name": "high", "above": 3.0, "clear": 2.5, "duration_s": 5, "hold_s": 10,
    "select": {"quantities": ["level"]},
}  # fmt: skip
STALE = {"kind": "stale", "name": "silent", "duration_s": 30, "hold_s": 30}
OFFLINE = {"kind": "offline", "name": "gone", "after_s": 60, "duration_s": 60, "hold_s": 30}


def test_a_swinging_signal_is_raised_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    for _ in range(20):  # spikes shorter than the duration
        desk.pass_time(4, 1, value=3.5)
        desk.pass_time(1, 1, value=2.0)
    assert desk.every() == 0
    for _ in range(60):  # swings between the limit and its clear level, and below for less than the hold
        desk.pass_time(6, 1, value=3.5)
        desk.pass_time(3, 1, value=2.7)
        desk.pass_time(8, 1, value=2.0)
    assert (desk.every(), len(desk.subjects())) == (1, 1)
    assert desk.alerts.standing()[0].value == 3.5
    desk.pass_time(30, 1, value=2.4)
    assert (desk.every(), desk.subjects()) == (1, [])


def test_one_high_value_and_then_silence_is_no_duration(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD | {"duration_s": 60})
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    desk.pass_time(1, 1, value=9.0)
    assert desk.pass_time(300) == []


def test_a_gateway_that_is_off_is_one_alert_and_its_return_rings_for_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STALE)
    fast = city(GATEWAYS, 70)
    for entry in fast:
        object.__setattr__(entry, "interval_s", [1.0, 10.0, 60.0][entry.number % 3])
    desk.catalogue.put(*fast)
    everyone = [entry.number for entry in fast]
    off = [entry.number for entry in fast if entry.path == GATEWAYS[0]]
    others = [number for number in everyone if number not in off]
    desk.pass_time(120, *everyone)
    assert desk.pass_time(600, *others, step=2) == [str(GATEWAYS[0])]
    assert desk.alerts.standing()[0].streams == 70
    one_second = [number for number in off if number % 3 == 0]  # it is back; what speaks seldom comes later
    assert desk.pass_time(50, *others, *one_second) == [str(GATEWAYS[0])]
    assert desk.pass_time(300, *everyone, step=2) == []
    assert desk.every() == 1


def test_one_dead_stream_and_one_dead_device_are_themselves(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STALE)
    pump = city(GATEWAYS[:1], 3)
    desk.catalogue.put(*pump)
    meter = city(GATEWAYS[:1], 8, device="other")[3:]
    desk.catalogue.put(*pump, *meter)
    desk.pass_time(60, *range(1, 9))
    assert desk.pass_time(120, 1, 2, 4, 5, 6, 7, 8) == [pump[2].id]
    assert desk.pass_time(200, 1, 2, 3) == [pump[2].id, f"{GATEWAYS[0]}/other"]
    assert desk.subjects() == [f"{GATEWAYS[0]}/other"]


def test_a_dark_district_is_one_alert_and_the_hubs_own_silence_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STALE)
    entries = city([*GATEWAYS, FAR], 10)
    desk.catalogue.put(*entries)
    everyone = [entry.number for entry in entries]
    far = [entry.number for entry in entries if entry.path == FAR]
    desk.pass_time(60, *everyone)
    assert desk.pass_time(200, *far) == ["Changzhou/Xinbei"]
    desk.pass_time(200, *everyone)
    assert desk.subjects() == []
    assert desk.pass_time(200) == ["Changzhou"]
    desk.pass_time(100, *everyone)
    assert desk.every() == 2


def test_an_offline_rule_speaks_for_the_streams(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STALE, OFFLINE)
    entries = city([*GATEWAYS, FAR], 20)
    desk.catalogue.put(*entries)
    everyone = [entry.number for entry in entries]
    others = everyone[20:]
    desk.pass_time(60, *everyone)
    assert desk.pass_time(150, *others) == [str(GATEWAYS[0])]
    desk.quality.states = {GATEWAYS[0]: GatewayState(GATEWAYS[0], False, None)}  # the broker sends its will
    assert desk.pass_time(150, *others) == [str(GATEWAYS[0])]
    (alert,) = desk.alerts.standing()
    assert (alert.rule, alert.streams, desk.every()) == ("gone", 20, 1)
    desk.quality.states = {GATEWAYS[0]: GatewayState(GATEWAYS[0], True, 0)}
    desk.pass_time(120, *everyone)
    assert (desk.subjects(), desk.every()) == ([], 1)


def test_a_restart_keeps_what_stands_and_raises_nothing_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STALE, OFFLINE, THRESHOLD)
    entries = city([*GATEWAYS, FAR], 5)
    desk.catalogue.put(*entries)
    desk.pass_time(60, *range(1, 21))
    desk.pass_time(200, *range(11, 21), value=4.0)
    before = [(alert.id, alert.subject.name) for alert in desk.alerts.standing()]
    assert {name for _, name in before} >= {str(GATEWAYS[0]), str(GATEWAYS[1]), entries[10].id}
    desk.alerts.acknowledge(before[0][0], "token Water", "a van is on its way")
    desk.clock.forward(900)  # the hub was down, too
    desk.start()
    desk.alerts.check()
    assert [(alert.id, alert.subject.name) for alert in desk.alerts.standing()] == before
    desk.pass_time(100, *range(11, 21), value=4.0)
    assert [(alert.id, alert.subject.name) for alert in desk.alerts.standing()] == before
    first = desk.alerts.get(before[0][0])
    assert first is not None
    assert (first.state, first.acknowledged_by, first.comment) == ("acknowledged", "token Water", "a van is on its way")
    desk.pass_time(100, *range(1, 21), value=1.0)
    assert desk.subjects() == []
    assert desk.every() == len(before)


async def test_a_kill_between_raise_and_delivery_loses_no_message(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    desk.pass_time(10, 1, value=4.0)
    desk.start()
    await desk.delivered(1)
    (topic, data), *_ = desk.sent
    assert topic == "hub/v1/alerts/warning/high"
    assert b'"event":"raised"' in data
    assert b'"value":4' in data


async def test_values_of_closed_streams_go_only_where_they_may_be_read(tmp_path: Path) -> None:
    channels = [DUTY, {"kind": "mqtt", "name": "water", "department": "Water"}]
    desk = Desk(tmp_path, THRESHOLD | {"deliver": ["duty", "water"]}, channels=channels)
    desk.catalogue.put(*city(GATEWAYS[:1], 1, grade=Grade.RESTRICTED))
    desk.pass_time(10, 1, value=3.875)
    await desk.delivered(2)
    assert sorted(b"3.875" in data for _, data in desk.sent) == [False, True]


def test_values_are_shown_only_to_who_may_read_them(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD, STALE)
    desk.catalogue.put(*city(GATEWAYS[:1], 3, grade=Grade.RESTRICTED))
    desk.pass_time(120, 1, 2, value=4.0)
    high = [alert for alert in desk.alerts.standing() if alert.rule == "high"]
    (silent,) = [alert for alert in desk.alerts.standing() if alert.rule == "silent"]
    assert len(high) == 2

    def seen(department: str, role: Role, *areas: str) -> tuple[bool, bool]:
        shown = may_see(Reader("t", department, "test", role, areas), desk.catalogue)
        return shown(high[0]), shown(silent)

    assert seen("Water", Role.READER) == (True, True)
    assert seen("Roads", Role.READER) == (False, False)
    assert seen("Roads", Role.ADMIN) == (False, True)
    assert seen("Water", Role.OPERATOR, "Changzhou/Wujin") == (False, False)


async def test_silence_is_kept_over_a_clear_and_a_restart_and_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    desk.pass_time(10, 1, value=4.0)
    (alert,) = desk.alerts.standing()
    desk.alerts.silence(alert.id, desk.clock.now_ns + 120 * SECOND, "token Water", "a test of the pump")
    desk.pass_time(20, 1, value=1.0)
    desk.start()
    desk.pass_time(20, 1, value=4.0)
    assert desk.store.waiting(["duty"]) == {"duty": 1}
    desk.pass_time(120, 1, value=4.0)
    assert desk.store.waiting(["duty"]) == {"duty": 2}
    assert desk.every() == 2


async def test_a_channel_that_fails_is_tried_again_counted_and_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    desk.pass_time(10, 1, value=4.0)
    desk.broken = True
    task = asyncio.create_task(desk.deliverer.run())
    counts = desk.deliverer.counts["duty"]
    async with asyncio.timeout(10):
        await until(lambda: counts.failed >= 3)
        assert (counts.sent, counts.dropped, counts.last_error) == (0, 0, "away")
        desk.clock.forward(desk.settings.give_up_s + 1)
        await until(lambda: counts.dropped >= 1)
        await until(lambda: desk.store.waiting(["duty"]) == {"duty": 0})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_too_many_messages_push_out_the_oldest_and_are_counted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.settings = desk.settings.model_copy(update={"queue": 3})
    desk.start()
    desk.catalogue.put(*city(GATEWAYS[:1], 5))
    desk.pass_time(10, 1, 2, 3, 4, 5, value=4.0)
    assert desk.store.waiting(["duty"]) == {"duty": 3}
    assert desk.alerts.unposted == 2


def test_rules_of_gateways(tmp_path: Path) -> None:
    filling = {"kind": "outbox_filling", "name": "filling", "frames": 100, "duration_s": 2, "hold_s": 2}
    lost = {"kind": "ledger_unexplained", "name": "lost", "duration_s": 0, "hold_s": 0}
    lies = {"kind": "birth_refused", "name": "lies", "duration_s": 0, "hold_s": 0}
    desk = Desk(tmp_path, filling, lost, lies)
    desk.catalogue.put(*city(GATEWAYS[:1], 1))
    desk.quality.states = {GATEWAYS[0]: GatewayState(GATEWAYS[0], True, 101)}
    desk.quality.unexplained = {GATEWAYS[0]: 7}
    desk.alerts.birth_refused(FAR, "1000000 streams; 20000 is the most")
    desk.pass_time(5, 1)
    told = {alert.rule: alert.message for alert in desk.alerts.standing()}
    assert "holds 101 frames" in told["filling"]
    assert "7 samples" in told["lost"]
    assert "1000000 streams" in told["lies"]  # of a gateway that nobody knows
    desk.quality.states = {GATEWAYS[0]: GatewayState(GATEWAYS[0], True, 60)}
    desk.quality.unexplained = {}
    desk.pass_time(5, 1)
    told = {alert.rule: alert.message for alert in desk.alerts.standing()}
    assert set(told) == {"filling", "lies"}  # 60 is between the limit and half of it
    desk.alerts.birth_taken(FAR)
    desk.pass_time(5, 1)
    assert [alert.rule for alert in desk.alerts.standing()] == ["filling"]


def test_purged_streams_leave_no_message(tmp_path: Path) -> None:
    desk = Desk(tmp_path, THRESHOLD)
    desk.catalogue.put(*city(GATEWAYS[:1], 2))
    desk.pass_time(10, 1, 2, value=4.0)
    with desk.store.begin() as db:
        assert messages_about(db, [1], before_ns=1, destroy=True) == 0
        assert messages_about(db, [1], before_ns=2**62, destroy=True) == 1
        assert messages_about(db, [1], before_ns=2**62, destroy=False) == 0
    assert desk.store.waiting(["duty"]) == {"duty": 1}


def test_made_up_gateways_do_not_pile_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"kind": "birth_refused", "name": "lies", "duration_s": 0, "hold_s": 0})
    for number in range(50):
        path = GatewayPath("City", "d", "s", f"liar-{number}")
        desk.alerts.birth_refused(path, "a lie")
        assert len(desk.pass_time(1)) == 1
        desk.alerts.birth_taken(path)
        desk.pass_time(2)
    assert (desk.subjects(), desk.every()) == ([], 50)


def test_completeness_of_a_whole_device_is_one_alert(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"kind": "completeness", "name": "poor"})
    desk.catalogue.put(*city(GATEWAYS[:2], 4))
    desk.quality.hour_should = np.array([0, *[60] * 8])
    desk.quality.hour_missing = np.array([0, 60, 30, 40, 50, 0, 0, 10, 2])
    assert desk.pass_time(5) == [str(GATEWAYS[0]), f"{GATEWAYS[1]}/meter/s2"]
    desk.quality.hour_missing = np.array([0, *[4] * 8])  # 93 %: neither
    assert len(desk.pass_time(5)) == 2
    desk.quality.hour_missing = np.zeros(9, dtype=np.int64)
    desk.pass_time(2)
    assert desk.subjects() == []


def test_a_blind_camera_is_one_alert(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"kind": "camera_blind", "name": "blind", "duration_s": 5, "hold_s": 5})
    desk.catalogue.put(*city(GATEWAYS[:1], 4, device="cam-1"))
    desk.quality.blind_ns = dict.fromkeys((1, 2, 3), desk.clock.now_ns)
    assert desk.pass_time(30) == [f"{GATEWAYS[0]}/cam-1"]
    desk.pass_time(300, step=10)
    assert desk.subjects() == []


def test_a_certificate_that_ends_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    good = Path(ssl.get_default_verify_paths().openssl_cafile)
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    files = [str(tmp_path / name) for name in ("broken.pem", "missing.pem")]
    rule = {"kind": "certificate_expiring", "name": "tls", "files": files, "days": 30}
    desk = Desk(tmp_path, rule)
    assert desk.pass_time(2) == ["broken.pem", "missing.pem"]
    if good.exists():
        assert not_after_ns(good.read_text(encoding="utf-8")) > 1_500_000_000 * SECOND


@pytest.mark.parametrize("bad", ["", "x", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        not_after_ns(bad)
