"""Nobody alters, removes, adds, moves or cuts off a line of the audit without it showing."""

import asyncio
from pathlib import Path

import pytest
from hub_state import state_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from cloud.hub.audit import Audit, Head, anchor_bytes, lines, read_anchor
from cloud.hub.database import Database


def audit_with(database: Database, count: int) -> Audit:
    audit = Audit(database, now_ns=lambda: 1_700_000_000_000_000_000)
    with database.begin() as db:
        db.exec_driver_sql("DELETE FROM hub_audit")
    for number in range(count):
        audit.write("t1 水务局", "read", f"city/east/first/gw/dev/s{number}", {"count": number, "why": "x\x00y"})
    return audit


async def test_lines_of_requests_at_the_same_time_are_one_chain(tmp_path: Path) -> None:
    audit = Audit(state_of(tmp_path))
    await asyncio.gather(*(audit.record(f"t{n}", "read", "s", {"n": n}) for n in range(300)))
    head, wrong = audit.verify()
    assert (head.seq, wrong) == (300, None)
    assert head == audit.head()
    assert [line.seq for line in audit.page(after=290)] == list(range(291, 301))
    assert sorted(line.detail["n"] for line in audit.page(limit=1000)) == list(range(300))


async def test_who_went_away_leaves_his_line_and_no_trouble(tmp_path: Path) -> None:
    audit = Audit(state_of(tmp_path))
    asked = asyncio.create_task(audit.record("t", "read", "s", {}))
    await asyncio.sleep(0)
    asked.cancel()
    await audit.record("t2", "read", "s", {})
    assert audit.verify() == (audit.head(), None)
    assert audit.head().seq == 2


SPOIL = {
    "who": "UPDATE hub_audit SET who = 'somebody else' WHERE seq = {n}",
    "action": "UPDATE hub_audit SET action = 'nothing' WHERE seq = {n}",
    "subject": "UPDATE hub_audit SET subject = subject || ' ' WHERE seq = {n}",
    "detail": "UPDATE hub_audit SET detail = '{{}}' WHERE seq = {n}",
    "time": "UPDATE hub_audit SET time_ns = time_ns + 1 WHERE seq = {n}",
    "hash": "UPDATE hub_audit SET hash = zeroblob(32) WHERE seq = {n}",
    "remove": "DELETE FROM hub_audit WHERE seq = {n}",
    "remove and close up": "DELETE FROM hub_audit WHERE seq = {n}; UPDATE hub_audit SET seq = seq - 1 WHERE seq > {n}",
    "add": "UPDATE hub_audit SET seq = -seq WHERE seq > {n}; UPDATE hub_audit SET seq = 1 - seq WHERE seq < 0; "
    "INSERT INTO hub_audit SELECT seq + 1, time_ns, who, action, subject, detail, hash FROM hub_audit WHERE seq = {n}",
    "swap": "UPDATE hub_audit SET seq = 0 WHERE seq = {n}; UPDATE hub_audit SET seq = {n} WHERE seq = {n} + 1; "
    "UPDATE hub_audit SET seq = {n} + 1 WHERE seq = 0",
}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(3, 12), place=st.integers(0, 100), how=st.sampled_from(sorted(SPOIL)))
def test_whatever_is_done_to_a_line_is_found(tmp_path: Path, count: int, place: int, how: str) -> None:
    database = state_of(tmp_path)
    audit = audit_with(database, count)
    anchor = audit.head()
    number = 1 + place % (count - 1)  # the end is for the anchor
    with database.begin() as db:
        for statement in SPOIL[how].format(n=number).split("; "):
            db.exec_driver_sql(statement)
    head, wrong = audit.verify(anchor)
    assert wrong is not None, how
    assert head.seq <= number
    database.close()


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_cut_off_end_shows_by_the_anchor_alone(tmp_path: Path, cut: int) -> None:
    database = state_of(tmp_path)
    audit = audit_with(database, 9)
    anchor = read_anchor(anchor_bytes(audit.head(), 1))
    with database.begin() as db:
        db.execute(delete(lines).where(lines.c.seq > 9 - cut))
    assert audit.verify()[1] is None
    assert audit.verify(anchor)[1] == f"ends at line {9 - cut}; line 9 was anchored: cut off"


def test_a_chain_written_anew_shows_by_the_anchor(tmp_path: Path) -> None:
    database = state_of(tmp_path)
    anchor = audit_with(database, 4).head()
    audit = Audit(database, now_ns=lambda: 5)
    with database.begin() as db:
        db.exec_driver_sql("DELETE FROM hub_audit")
    for _ in range(6):
        audit.write("t", "read", "other", {})
    assert audit.verify()[1] is None
    assert "written anew" in (audit.verify(anchor)[1] or "")


async def test_the_head_is_published_when_it_changes_and_again_when_that_failed(tmp_path: Path) -> None:
    audit = Audit(state_of(tmp_path))
    told: asyncio.Queue[Head] = asyncio.Queue()
    takes = False

    def publish(topic: str, payload: bytes) -> bool:
        assert topic == "hub/v1/audit"
        told.put_nowait(read_anchor(payload))
        return takes

    anchoring = asyncio.create_task(audit.anchor_every(publish, 0.01))
    assert [(await told.get()).seq for _ in range(3)] == [0, 0, 0]
    takes = True
    await audit.record("t", "read", "s", {})
    while (head := await told.get()).seq != 1:
        pass
    await asyncio.sleep(0.1)
    anchoring.cancel()
    assert told.empty()
    assert audit.verify(head)[1] is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"seq": "1", "hash": "x"}', b'{"seq": 1}', b"\xff"])
def test_what_is_no_anchor_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an anchor"):
        read_anchor(data)
