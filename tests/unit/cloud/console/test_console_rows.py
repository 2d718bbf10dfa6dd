"""Who sees which device, and that neither a table nor a spreadsheet gets more than that."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hub_kit_history import PATH, T0, Catalogue, entry

from cloud.console.rows import COLUMNS, Filter, csv_of, may_see, row_of, seen_by, spark_of
from cloud.console.watch import Watch
from cloud.console.words import ago, language_of, speaking
from cloud.hub.access import Reader, Role
from cloud.hub.parts import Sample
from cloud.hub.passing import Column, Passed
from contract.catalogue import Grade


class Nothing:
    """Nothing passed before."""

    def get(self, number: int) -> Sample | None:  # noqa: ARG002 - the protocol's
        return None


ENTRIES = (
    entry(1, device="open", owner="water"),
    entry(2, device="mine", owner="works", grade=Grade.RESTRICTED),
    entry(3, device="shared", owner="water", grade=Grade.SHARED, shared_with=("works",)),
    entry(4, device="closed", owner="water", grade=Grade.RESTRICTED, contact="=cmd()"),
)


@pytest.fixture
def watch() -> Watch:
    made = Watch(Catalogue(*ENTRIES), Nothing(), Path("none"), now_ns=lambda: T0)
    made.look()
    for number in (1, 2, 3, 4):
        values = [1.0, 2.0]
        column = Column(number, np.array([T0 - 1, T0]), list(values), np.zeros(2, dtype=np.uint8), [0, 1])
        made.take(Passed(number, T0, PATH, 1, number, (column,)))
    made.look()
    return made


def reader(role: Role = Role.READER, areas: tuple[str, ...] = ()) -> Reader:
    return Reader("t", "works", "test", role, areas)


def names(watch: Watch, who: Reader, **wanted: str) -> list[str]:
    return [device.entry.device for device in seen_by(who, watch.devices, Filter(**wanted))]


def test_health_is_told_under_the_rule_of_figures(watch: Watch) -> None:
    assert names(watch, reader()) == ["open", "mine", "shared"]
    assert names(watch, reader(Role.OPERATOR)) == ["open", "mine", "shared", "closed"]
    assert names(watch, reader(Role.ADMIN, ("elsewhere",))) == []


def test_the_shape_of_values_is_for_who_may_have_them(watch: Watch) -> None:
    closed = watch.devices[3]
    assert may_see(reader(Role.OPERATOR), closed)
    assert spark_of(closed, watch, reader(Role.OPERATOR)) == ""
    assert spark_of(watch.devices[0], watch, reader()) == "0z"


def test_filters_mean_what_they_say(watch: Watch) -> None:
    who = reader(Role.ADMIN)
    assert names(watch, who, owner="works") == ["mine"]
    assert names(watch, who, text="ＳＨＡＲＥＤ") == ["shared"]
    assert names(watch, who, kind="trouble") == []
    assert names(watch, who, kind="fine", area=f"{PATH.city}/{PATH.district}") == ["open", "mine", "shared", "closed"]
    assert names(watch, who, area=f"{PATH.city}/{PATH.district[:-1]}x") == []
    assert names(watch, who, gateway=str(PATH), text="nothing of it") == []


def test_a_spreadsheet_runs_nothing_and_reads_chinese(watch: Watch) -> None:
    text = csv_of(row_of(device, watch, "zh") for device in watch.devices)
    assert text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text[1:])))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[3]["contact"] == "'=cmd()"
    assert rows[0]["cause"] == "工作正常"


@pytest.mark.parametrize(
    ("cookie", "accept", "found"),
    [
        ("zh", "en-GB", "zh"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-FR, en;q=0.5", "en"),
        ("<script>", "", "en"),
    ],
)
def test_the_language_is_what_was_chosen_or_what_the_browser_asks_for(
    cookie: str | None, accept: str, found: str
) -> None:
    assert language_of(cookie, accept) == found


def test_ages_are_told_as_people_do() -> None:
    say = speaking("en")
    assert [ago(say, seconds) for seconds in (-5, 119, 120, 7199, 7200, 172_800)] == [
        "0 s ago", "119 s ago", "2 min ago", "119 min ago", "2 h ago", "2 d ago",
    ]  # fmt: skip
