"""The alert engine: looks at every rule once a second, keeps what stands, tells what changed.

Each look gives the alerts that stand now; the difference to those in the database is written and posted to the
channels in one transaction. So a kill loses no message, and a restart raises nothing again. While the database is away
the difference simply waits.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cloud.hub import alert_rules as rules
from cloud.hub.access import department_may_read
from cloud.hub.alert_checks import (
    CameraBlindCheck,
    CertificateCheck,
    Check,
    CompletenessCheck,
    GatewayCheck,
    StaleCheck,
    ThresholdCheck,
)
from cloud.hub.alert_latch import BAD, GOOD, NEITHER
from cloud.hub.alert_look import Found, Look, Subject
from cloud.hub.alert_store import Alert, AlertStore
from cloud.hub.deliver import Deliverer
from cloud.hub.entries import Entry
from cloud.hub.parts import Newest
from cloud.hub.quality import Quality
from cloud.hub.quality_roster import Level, Roster
from cloud.hub.times import format_time
from cloud.ledger_report import HOUR_NS
from contract.errors import StoreUnavailable
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

MAX_OPEN = 20_000
_MAX_REFUSED = 10_000
_FORGET_EVERY_NS = HOUR_NS


@dataclass(frozen=True, slots=True)
class _Rule:
    rule: rules.Rule
    check: Check


class Alerts:
    """What stands, and what was. `check`, `acknowledge` and `silence` block: callers use a thread.

    They raise StoreUnavailable. recalled: only after Quality.recall, else every stream seems never heard.
    """

    def __init__(
        self,
        settings: rules.AlertSettings,
        store: AlertStore,
        quality: Quality,
        newest: Newest,
        deliverer: Deliverer,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.unraised = 0  # alerts that found no room
        self.unposted = 0  # messages that had to go, as too many waited
        self.deliverer = deliverer
        self._settings = settings
        self._store = store
        self._quality = quality
        self._newest = newest
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._lock = threading.RLock()
        self._open: dict[tuple[str, Subject], Alert] = {}
        self._silences: dict[tuple[str, Subject], Alert] = {}
        self._muted: set[int] = set()
        self._refused: dict[GatewayPath, str] = {}
        self._rules: list[_Rule] | None = None
        self._channels = {channel.name: channel for channel in settings.channels}
        self._forgot_ns = 0

    async def run(self) -> None:
        """Look again and again, and deliver, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_often(), name="alert rules")
            tasks.create_task(self.deliverer.run(), name="alert delivery")

    async def _look_often(self) -> None:
        away = False
        while True:
            try:
                await asyncio.to_thread(self.check)
            except StoreUnavailable as error:
                if not away:
                    log.warning("alerts wait: %s", error)
                away = True
            else:
                if away:
                    log.warning("alerts go on")
                away = False
            await asyncio.sleep(self._settings.check_s)

    def birth_refused(self, path: GatewayPath, reason: str) -> None:
        """A birth of this gateway was refused. From any thread."""
        with self._lock:
            if path in self._refused or len(self._refused) < _MAX_REFUSED:
                self._refused[path] = reason[:500]

    def birth_taken(self, path: GatewayPath) -> None:
        """A birth of this gateway was taken."""
        with self._lock:
            self._refused.pop(path, None)

    def standing(self) -> list[Alert]:
        """The alerts that are not cleared, oldest first; from memory."""
        with self._lock:
            return sorted(self._open.values(), key=lambda alert: alert.id)

    def get(self, alert_id: int) -> Alert | None:
        """One alert, cleared or not."""
        return self._store.get(alert_id)

    def cleared(self, *, before_id: int | None, limit: int) -> list[Alert]:
        """Cleared alerts, newest first."""
        return self._store.cleared(before_id=before_id, limit=limit)

    def acknowledge(self, alert_id: int, who: str, comment: str) -> Alert | None:
        """Somebody has taken it on. None when there is no such alert that stands; the first one counts."""
        with self._lock:
            alert = next((one for one in self._open.values() if one.id == alert_id), None)
            if alert is None or alert.acknowledged_ns is not None:
                return alert
            values = {"acknowledged_ns": self._now_ns(), "acknowledged_by": who, "comment": comment}
            return self._changed(alert, "acknowledged", values)

    def silence(self, alert_id: int, until_ns: int, who: str, comment: str) -> Alert | None:
        """Tell nobody of it until then, also when it is raised again. None when there is no such alert that stands."""
        with self._lock:
            alert = next((one for one in self._open.values() if one.id == alert_id), None)
            if alert is None:
                return None
            values = {"silenced_until_ns": until_ns, "silenced_by": who, "silence_comment": comment}
            changed = self._changed(alert, None, values)
            if changed is None:
                return None
            self._silences[changed.rule, changed.subject] = changed
            self._muted.add(changed.id)
            return changed

    def check(self) -> None:
        """One look at every rule."""
        with self._lock:
            look = self._look()
            for one in self._working(look.roster):
                self._settle(one.rule, one.check.step(look), look)
            self._end_silences(look.now_ns)
            if look.now_ns - self._forgot_ns > _FORGET_EVERY_NS:
                keep_ns = self._settings.keep_cleared_days * 86_400_000_000_000
                self._store.forget(before_ns=look.now_ns - keep_ns, keep=self._settings.keep_cleared)
                self._forgot_ns = look.now_ns

    def _look(self) -> Look:
        quality = self._quality
        roster = quality.roster()
        measured_ns, heard_ns = quality.observer.newest(roster.size)
        return Look(
            now_ns=self._now_ns(),
            started_ns=self._started_ns,
            roster=roster,
            limits_ns=quality.limits_ns(roster),
            measured_ns=measured_ns,
            heard_ns=heard_ns,
            states=quality.states,
            newest=self._newest,
            blind_ns=dict(quality.blind_ns),
            blind_for_ns=round(3e9 * quality.settings.refresh_s),
            should=quality.hour_should,
            missing=quality.hour_missing,
            unexplained=quality.unexplained,
        )

    def _working(self, roster: Roster) -> list[_Rule]:
        """The checks; at the first look, with what stood when the process before ended."""
        if self._rules is None:
            now_ns = self._now_ns()
            stood = self._store.open_alerts()
            self._silences = self._store.silences(now_ns)
            made = self._made()
            known = {one.rule.name: one for one in made}
            for alert in stood:
                rule = known.get(alert.rule)
                if rule is None or rule.rule.kind != alert.kind:
                    with self._store.begin() as db:
                        self._store.change(db, alert.id, cleared_ns=now_ns)
                    continue
                self._open[alert.rule, alert.subject] = alert
                if alert.silenced_until_ns is not None:
                    self._muted.add(alert.id)
            for one in made:
                one.check.restore([subject for name, subject in self._open if name == one.rule.name], roster)
            self._rules = made
        return self._rules

    def _made(self) -> list[_Rule]:
        offline = {
            rule.name: GatewayCheck(rule, _offline(rule), lambda _, path: f"gateway {path} is gone", whole=True)
            for rule in self._settings.rules
            if isinstance(rule, rules.Offline)
        }

        def watches(path: GatewayPath) -> bool:
            return any(check.watches(path, self._quality.roster()) for check in offline.values())

        made: list[_Rule] = []
        for rule in self._settings.rules:
            check: Check
            match rule:
                case rules.Offline():
                    check = offline[rule.name]
                case rules.Stale():
                    check = StaleCheck(rule, watches)
                case rules.Completeness():
                    check = CompletenessCheck(rule)
                case rules.Threshold():
                    check = ThresholdCheck(rule)
                case rules.CameraBlind():
                    check = CameraBlindCheck(rule)
                case rules.CertificateExpiring():
                    check = CertificateCheck(rule)
                case rules.OutboxFilling():
                    check = GatewayCheck(rule, _filling(rule.frames), _filling_text)
                case rules.LedgerUnexplained():
                    check = GatewayCheck(rule, _unexplained, _unexplained_text)
                case rules.BirthRefused():
                    check = GatewayCheck(rule, self._was_refused, self._refused_text, more=lambda: list(self._refused))
            made.append(_Rule(rule, check))
        return made

    def _was_refused(self, _: Look, path: GatewayPath) -> int:
        return BAD if path in self._refused else GOOD

    def _refused_text(self, _: Look, path: GatewayPath) -> str:
        return f"the birth of gateway {path} was refused: {self._refused.get(path, '')}"

    def _settle(self, rule: rules.Rule, found: Mapping[Subject, Found], look: Look) -> None:
        """Write and post the difference between what stands and what stood."""
        stood = {subject: alert for (name, subject), alert in self._open.items() if name == rule.name}
        for subject in found.keys() - stood.keys():
            if len(self._open) >= MAX_OPEN:
                if not self.unraised:
                    log.warning("%d alerts stand; no more are raised until some are cleared", MAX_OPEN)
                self.unraised += 1
                continue
            self._raise(rule, subject, found[subject], look.now_ns)
        for subject in stood.keys() - found.keys():
            self._changed(stood[subject], "cleared", {"cleared_ns": look.now_ns})

    def _raise(self, rule: rules.Rule, subject: Subject, found: Found, now_ns: int) -> None:
        values: dict[str, Any] = {
            "rule": rule.name, "kind": rule.kind, "severity": rule.severity.value, "raised_ns": now_ns,
        }  # fmt: skip
        quiet = self._silences.get((rule.name, subject))
        if quiet is not None and quiet.silent(now_ns):
            values |= {
                "silenced_until_ns": quiet.silenced_until_ns,
                "silenced_by": quiet.silenced_by,
                "silence_comment": quiet.silence_comment,
            }
        with self._store.begin() as db:
            alert = self._store.insert(db, values, subject, found)
            posted = self._post(db, alert, "raised", now_ns)
        self._open[rule.name, subject] = alert
        if alert.silenced_until_ns is not None:
            self._muted.add(alert.id)
        self.deliverer.wake(posted)

    def _changed(self, alert: Alert, event: str | None, values: Mapping[str, Any]) -> Alert | None:
        """The alert with these values; None when it was purged meanwhile, and then it stands no more."""
        now_ns = self._now_ns()
        with self._store.begin() as db:
            changed = self._store.change(db, alert.id, **values)
            posted = self._post(db, changed, event, now_ns) if event and changed is not None else []
        if changed is None or changed.cleared_ns is not None:
            self._open.pop((alert.rule, alert.subject), None)
            self._muted.discard(alert.id)
        else:
            self._open[alert.rule, alert.subject] = changed
        self.deliverer.wake(posted)
        return changed

    def _end_silences(self, now_ns: int) -> None:
        """What still stands when its silence ends is told then."""
        self._silences = {key: alert for key, alert in self._silences.items() if alert.silent(now_ns)}
        for alert in [one for one in self._open.values() if one.id in self._muted and not one.silent(now_ns)]:
            with self._store.begin() as db:
                posted = self._post(db, alert, "raised", now_ns)
            self._muted.discard(alert.id)
            self.deliverer.wake(posted)

    def _post(self, db: Any, alert: Alert, event: str, now_ns: int) -> list[str]:
        """Messages for the channels of the alert's rule. Returns their names."""
        if alert.silent(now_ns):
            return []
        rule = next((one for one in self._settings.rules if one.name == alert.rule), None)
        names = list(rule.deliver) if rule is not None else []
        for name in names:
            body = message_of(alert, event, now_ns, self._entry(alert), self._channels[name].department)
            self.unposted += self._store.post(db, name, body, now_ns)
        return names

    def _entry(self, alert: Alert) -> Entry | None:
        return None if alert.number is None else self._quality.entry(alert.number)


def message_of(alert: Alert, event: str, now_ns: int, entry: Entry | None, department: str) -> dict[str, Any]:
    """What a channel gets: a value only where `department` may read the stream."""
    told = alert.value is not None and entry is not None and department_may_read(department, entry)
    return {
        "event": event,
        "at": format_time(now_ns),
        "id": alert.id,
        "number": alert.number,
        "rule": alert.rule,
        "kind": alert.kind,
        "severity": alert.severity,
        "subject_kind": alert.subject.kind,
        "subject": alert.subject.name,
        "message": alert.message,
        "streams": alert.streams,
        "raised_at": format_time(alert.raised_ns),
        "acknowledged_by": alert.acknowledged_by,
        "owner": "" if entry is None else entry.owner,
        "contact": "" if entry is None else entry.contact,
    } | ({"value": alert.value} if told else {})


def _offline(rule: rules.Offline) -> Callable[[Look, GatewayPath], int]:
    known: tuple[Roster, dict[GatewayPath, tuple[int, float]]] | None = None

    def condition(look: Look, path: GatewayPath) -> int:
        nonlocal known
        if known is None or known[0] is not look.roster:
            known = look.roster, _speaking(look.roster)
        state = look.states.get(path)
        if state is not None and state.online is False:
            return BAD
        if path not in known[1]:
            return GOOD
        first_ns, interval_s = known[1][path]
        heard_ns = int(look.heard_by(Level.GATEWAY)[look.roster.place(Level.GATEWAY, str(path))])
        since_ns = max(heard_ns, first_ns, look.started_ns)  # a hub that was down itself has heard nothing
        if look.now_ns - since_ns > max(rule.after_s, 3 * interval_s) * 1e9:
            return BAD
        return GOOD if heard_ns >= look.started_ns else NEITHER

    return condition


def _speaking(roster: Roster) -> dict[GatewayPath, tuple[int, float]]:
    """Of gateways with streams whose silence means something: since when the first is known, the shortest interval."""
    found: dict[GatewayPath, tuple[int, float]] = {}
    for entry, speaks in zip(roster.entries, roster.speaks.tolist(), strict=True):
        if speaks:
            first_ns, interval_s = found.get(entry.path, (entry.since_ns, entry.interval_s))
            found[entry.path] = min(first_ns, entry.since_ns), min(interval_s, entry.interval_s)
    return found


def _filling(frames: int) -> Callable[[Look, GatewayPath], int]:
    def condition(look: Look, path: GatewayPath) -> int:
        state = look.states.get(path)
        if state is None or state.waiting is None:
            return NEITHER
        return BAD if state.waiting > frames else GOOD if state.waiting <= frames / 2 else NEITHER

    return condition


def _filling_text(look: Look, path: GatewayPath) -> str:
    state = look.states.get(path)
    return f"gateway {path} holds {state.waiting if state else '?'} frames that the database does not have"


def _unexplained(look: Look, path: GatewayPath) -> int:
    return BAD if look.unexplained.get(path, 0) != 0 else GOOD


def _unexplained_text(look: Look, path: GatewayPath) -> str:
    return f"nothing accounts for {look.unexplained.get(path, 0)} samples of gateway {path}"
