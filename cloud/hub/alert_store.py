"""Alerts in the hub's database: what was raised, acknowledged, silenced and cleared, when and by whom; and messages
that have not been delivered yet, written with the change that they tell of, so that a kill loses none."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Row

from cloud.hub.alert_look import Found, Subject
from cloud.hub.database import Database, metadata

_Id = BigInteger().with_variant(Integer, "sqlite")
alerts_table = Table(
    "hub_alerts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("number", BigInteger),
    Column("message", Text, nullable=False),
    Column("value", Float),
    Column("streams", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("raised_ns", BigInteger, nullable=False),
    Column("acknowledged_ns", BigInteger),
    Column("acknowledged_by", Text),
    Column("comment", Text),
    Column("silenced_until_ns", BigInteger),
    Column("silenced_by", Text),
    Column("silence_comment", Text),
    Column("cleared_ns", BigInteger),
)
Index("hub_alerts_cleared", alerts_table.c.cleared_ns)
messages_table = Table(
    "hub_alert_messages",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("made_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
Index("hub_alert_messages_channel", messages_table.c.channel, messages_table.c.id)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. state: raised, acknowledged or cleared. number: of its stream, when it is about one."""

    id: int
    rule: str
    kind: str
    severity: str
    subject: Subject
    number: int | None
    message: str
    value: float | None
    streams: int
    detail: dict[str, Any]
    raised_ns: int
    acknowledged_ns: int | None = None
    acknowledged_by: str | None = None
    comment: str | None = None
    silenced_until_ns: int | None = None
    silenced_by: str | None = None
    silence_comment: str | None = None
    cleared_ns: int | None = None

    @property
    def state(self) -> str:
        """`raised`, `acknowledged` or `cleared`."""
        if self.cleared_ns is not None:
            return "cleared"
        return "raised" if self.acknowledged_ns is None else "acknowledged"

    def silent(self, now_ns: int) -> bool:
        """Whether somebody asked for quiet until later than now."""
        return self.silenced_until_ns is not None and self.silenced_until_ns > now_ns


@dataclass(frozen=True, slots=True)
class Message:
    """What waits for a channel."""

    id: int
    channel: str
    made_ns: int
    body: dict[str, Any]


class AlertStore:
    """The tables. Blocking. Every method may be called from any thread, and raises StoreUnavailable.

    begin: a transaction, for the methods that take one. queue: messages that may wait for a channel.
    """

    def __init__(self, database: Database, *, queue: int) -> None:
        self.begin = database.begin
        self._database = database
        self._queue = queue

    def open_alerts(self) -> list[Alert]:
        """Those that are not cleared, oldest first."""
        of = alerts_table.c
        with self._database.reading() as db:
            return [
                _alert(row) for row in db.execute(select(alerts_table).where(of.cleared_ns.is_(None)).order_by(of.id))
            ]

    def silences(self, now_ns: int) -> dict[tuple[str, Subject], Alert]:
        """The alerts, cleared ones too, whose silence has not ended, by rule and subject."""
        of = alerts_table.c
        asked = select(alerts_table).where(of.silenced_until_ns > now_ns).order_by(of.id)
        with self._database.reading() as db:
            return {(alert.rule, alert.subject): alert for alert in map(_alert, db.execute(asked))}

    def insert(self, db: Connection, values: Mapping[str, Any], subject: Subject, found: Found) -> Alert:
        """A new alert. values: rule, kind, severity, raised_ns and perhaps a silence."""
        row = {
            **values,
            "subject_kind": subject.kind,
            "subject": subject.name,
            "number": found.number,
            "message": found.message,
            "value": found.value,
            "streams": found.streams,
            "detail": json.dumps(found.detail),
        }
        return _alert(db.execute(insert(alerts_table).values(**row).returning(alerts_table)).one())

    def change(self, db: Connection, alert_id: int, **values: Any) -> Alert | None:
        """Set columns of an alert; None when there is no such alert."""
        changed = update(alerts_table).where(alerts_table.c.id == alert_id).values(**values).returning(alerts_table)
        row = db.execute(changed).one_or_none()
        return None if row is None else _alert(row)

    def get(self, alert_id: int) -> Alert | None:
        """One alert."""
        with self._database.reading() as db:
            row = db.execute(select(alerts_table).where(alerts_table.c.id == alert_id)).one_or_none()
        return None if row is None else _alert(row)

    def cleared(self, *, before_id: int | None, limit: int) -> list[Alert]:
        """Cleared alerts with smaller ids, newest first."""
        of = alerts_table.c
        asked = select(alerts_table).where(of.cleared_ns.is_not(None)).order_by(of.id.desc()).limit(limit)
        with self._database.reading() as db:
            return [_alert(row) for row in db.execute(asked if before_id is None else asked.where(of.id < before_id))]

    def forget(self, *, before_ns: int, keep: int) -> None:
        """Drop cleared alerts that are old or too many."""
        of = alerts_table.c
        with self._database.begin() as db:
            newest = select(of.id).where(of.cleared_ns.is_not(None)).order_by(of.id.desc()).offset(keep).limit(1)
            beyond = db.execute(newest).scalar()
            old = or_(of.cleared_ns < before_ns, of.id <= beyond) if beyond is not None else of.cleared_ns < before_ns
            db.execute(delete(alerts_table).where(and_(of.cleared_ns.is_not(None), old)))

    def post(self, db: Connection, channel: str, body: Mapping[str, Any], now_ns: int) -> int:
        """A message for a channel. Returns how many older ones had to go, as too many wait."""
        of = messages_table.c
        db.execute(insert(messages_table).values(channel=channel, made_ns=now_ns, body=json.dumps(body)))
        oldest = select(of.id).where(of.channel == channel).order_by(of.id.desc()).offset(self._queue).limit(1)
        beyond = db.execute(oldest).scalar()
        if beyond is None:
            return 0
        return db.execute(delete(messages_table).where(of.channel == channel, of.id <= beyond)).rowcount

    def next_message(self, channel: str) -> Message | None:
        """The oldest that waits for this channel."""
        of = messages_table.c
        with self._database.reading() as db:
            row = db.execute(
                select(messages_table).where(of.channel == channel).order_by(of.id).limit(1)
            ).one_or_none()  # fmt: skip
        return None if row is None else Message(row.id, row.channel, row.made_ns, json.loads(row.body))

    def done(self, message_id: int) -> None:
        """It was delivered, or given up."""
        with self._database.begin() as db:
            db.execute(delete(messages_table).where(messages_table.c.id == message_id))

    def waiting(self, channels: Sequence[str]) -> dict[str, int]:
        """How many messages wait for each channel."""
        of = messages_table.c
        with self._database.reading() as db:
            found = {row[0]: int(row[1]) for row in db.execute(select(of.channel, func.count()).group_by(of.channel))}
        return {name: found.get(name, 0) for name in channels}


def messages_about(db: Connection, numbers: Collection[int], *, before_ns: int, destroy: bool) -> int:
    """How many messages wait that tell of these streams, made before a time; they are destroyed, too. For a purge."""
    of = messages_table.c
    waiting = db.execute(select(of.id, of.body).where(of.made_ns < before_ns)).fetchall()
    found = [key for key, body in waiting if json.loads(body).get("number") in numbers]
    for key in found if destroy else ():
        db.execute(delete(messages_table).where(of.id == key))
    return len(found)


def _alert(row: Row[Any]) -> Alert:
    known = row._asdict()
    subject = Subject(known.pop("subject_kind"), known.pop("subject"))
    return Alert(**known | {"subject": subject, "detail": json.loads(known["detail"])})
