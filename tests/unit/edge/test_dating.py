"""Frames from before the clock was known: dated once, the same again after any restart, never on a used timestamp."""

from pathlib import Path

import pytest

from edge.clock import BUILT_NS
from edge.dating import MAX_BOOTS, NOTE, Datings, machine_boot

SECOND = 1_000_000_000
NEWEST_NS = 1_795_000_000 * SECOND + 123_456_789


class Disk:
    """Notes by name; may be full."""

    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}
        self.full = False

    def load(self, name: str) -> bytes | None:
        return self.notes.get(name)

    def save(self, name: str, data: bytes) -> None:
        if self.full:
            raise OSError(28, "no space left on device")
        self.notes[name] = data

    def datings(self, machine: str) -> Datings:
        return Datings(self.load, self.save, machine)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_nothing_is_dated_before_the_clock_is_known(disk: Disk) -> None:
    datings = disk.datings("monday")
    datings.begin(1, NEWEST_NS, 5 * SECOND)
    assert (datings.settled, datings.offset(1)) == (False, None)
    datings.settle(77)
    assert (datings.settled, datings.offset(1)) == (True, (77, False))


def test_every_process_of_one_machine_start_is_dated_exactly(disk: Disk) -> None:
    for boot in (1, 2):  # killed twice while undated
        disk.datings("monday").begin(boot, NEWEST_NS, boot * SECOND)
    datings = disk.datings("monday")
    datings.begin(3, NEWEST_NS, 3 * SECOND)
    datings.settle(77)
    assert [datings.offset(boot) for boot in (1, 2, 3)] == [(77, False)] * 3


def test_what_was_decided_once_stays_although_the_clock_moves(disk: Disk) -> None:
    first = disk.datings("monday")
    first.begin(1, NEWEST_NS, 0)
    first.settle(77)
    second = disk.datings("monday")
    second.begin(2, NEWEST_NS, 9 * SECOND)
    second.settle(99)
    assert (second.offset(1), second.offset(2)) == ((77, False), (99, False))


def test_a_machine_that_never_knew_the_time_is_placed_after_the_newest_known(disk: Disk) -> None:
    disk.datings("monday").begin(1, NEWEST_NS, 40 * SECOND)
    disk.datings("monday").begin(2, NEWEST_NS, 90 * SECOND)
    datings = disk.datings("tuesday")
    datings.begin(3, NEWEST_NS, 0)
    datings.settle(77)
    first, second = datings.offset(1), datings.offset(2)
    assert first is not None
    assert first == second, "one guess for one machine start keeps the order of its readings"
    offset_ns, estimated = first
    assert estimated
    begins_ns = offset_ns + 40 * SECOND
    assert NEWEST_NS < begins_ns < NEWEST_NS + 2 * SECOND
    assert datings.offset(3) == (77, False)
    again = disk.datings("wednesday")
    again.begin(4, NEWEST_NS + 1000 * SECOND, 0)
    again.settle(5)
    assert again.offset(1) == first


def test_guesses_never_share_a_timestamp_with_each_other_or_with_a_dated_reading(disk: Disk) -> None:
    for number in range(20):  # a mast whose power fails every night, and whose clock never comes
        disk.datings(f"night {number}").begin(number, NEWEST_NS, 7 * SECOND)
    datings = disk.datings("day")
    datings.begin(99, NEWEST_NS, 0)
    datings.settle(0)
    found = [datings.offset(number) for number in range(20)]
    microseconds = {offset[0] // 1000 % 1000 for offset in found if offset is not None}
    assert len(microseconds) == 20
    assert min(microseconds) >= 500, "below are the eras of a clock that was set back"


def test_a_gateway_that_never_knew_any_time_is_not_dated_1970(disk: Disk) -> None:
    disk.datings("monday").begin(1, 0, 5 * SECOND)
    datings = disk.datings("tuesday")
    datings.begin(2, 0, 0)
    datings.settle(77)
    offset = datings.offset(1)
    assert offset is not None
    assert offset[0] + 5 * SECOND > BUILT_NS


@pytest.mark.parametrize("damage", [b"", b"\xff\xff garbage", b"\x93\x01\x02\x03"])
def test_a_damaged_note_costs_exactness_and_nothing_else(disk: Disk, damage: bytes) -> None:
    disk.datings("monday").begin(1, NEWEST_NS, 0)
    disk.notes[NOTE] = damage
    datings = disk.datings("monday")
    datings.begin(2, NEWEST_NS, 0)
    datings.settle(77)
    assert datings.offset(2) == (77, False)
    lost = datings.offset(1)
    assert lost is not None
    assert lost[1], "what nobody remembers is a guess"
    restarted = disk.datings("monday")
    restarted.begin(3, NEWEST_NS, 0)
    restarted.settle(1234)
    assert restarted.offset(1) == lost


def test_a_full_disk_keeps_nobody_from_sampling_but_nothing_is_used_that_could_be_forgotten(disk: Disk) -> None:
    disk.full = True
    datings = disk.datings("monday")
    datings.begin(1, NEWEST_NS, 0)
    with pytest.raises(OSError, match="no space"):
        datings.settle(77)
    assert (datings.settled, datings.offset(1)) == (False, None)
    disk.full = False
    datings.settle(88)
    assert datings.offset(1) == (88, False)
    disk.full = True
    assert datings.offset(555) is None, "an unknown boot waits until its guess can be kept"
    disk.full = False
    assert datings.offset(555) is not None


def test_the_note_stays_small(disk: Disk) -> None:
    datings = disk.datings("monday")
    for boot in range(MAX_BOOTS + 50):
        datings.begin(boot, NEWEST_NS, 0)
    datings.settle(77)
    assert len(disk.notes[NOTE]) < 150 * MAX_BOOTS
    assert datings.offset(MAX_BOOTS + 49) == (77, False)


def test_a_machine_start_has_a_name(tmp_path: Path) -> None:
    assert machine_boot() == machine_boot()
    missing = tmp_path / "boot_id"
    assert machine_boot(missing) != machine_boot(missing), "not known: then no two processes share a start"
