"""How a device is: as bad as its worst stream, gaps at once, silence by the clock, quiet is not silence."""

from pathlib import Path
from typing import Any

import numpy as np
from hub_kit_history import PATH, SECOND, T0, entry

from cloud.console.troubles import BY_CODE, KINDS, OF_STATUS, TROUBLES
from cloud.console.watch import SPARK, Watch
from cloud.hub.entries import Entry
from cloud.hub.parts import Sample
from cloud.hub.passing import Column, Gap, Passed
from contract.readings import Kind, Quality, Reason, gap, status
from contract.topics import GatewayPath

OTHER = GatewayPath("City", "West", "Second", "gw-9")


class Entries:
    """A catalogue that changes when a test says so."""

    def __init__(self, *entries: Entry) -> None:
        self.version = 1
        self.entries = list(entries)

    def all(self) -> list[Entry]:
        return self.entries

    def get(self, stream_id: str) -> Entry | None:
        return next((one for one in self.entries if one.id == stream_id), None)

    def by_number(self, number: int) -> Entry | None:
        return next((one for one in self.entries if one.number == number), None)

    def by_key(self, key: tuple[Any, str, str]) -> Entry | None:
        return next((one for one in self.entries if one.key == key), None)

    async def versions(self, number: int) -> list[Entry]:
        return [one for one in self.entries if one.number == number]


class Desk:
    """A watch of some streams, and a clock."""

    def __init__(self, *entries: Entry, known: dict[int, Sample] | None = None) -> None:
        self.now_ns = T0
        self.catalogue = Entries(*entries)
        self._frames = 0
        remembered = known or {}

        class Newest:
            def get(self, number: int) -> Sample | None:
                return remembered.get(number)

        self.watch = Watch(self.catalogue, Newest(), Path("none"), now_ns=lambda: self.now_ns)
        self.watch.look()

    def send(self, number: int, value: float | str = 1.0, code: int = 0) -> None:
        column = Column(number, np.array([self.now_ns]), [value], np.array([code], dtype=np.uint8), [0])
        self._pass((column,))

    def miss(self, number: int, reason: Reason) -> None:
        self._pass((), (Gap(number, self.now_ns, gap(reason)),))

    def stay(self, number: int) -> None:
        self._pass((), (), ((number, self.now_ns),))

    def _pass(self, columns: Any, gaps: Any = (), quiet: Any = ()) -> None:
        self._frames += 1
        self.watch.take(Passed(self._frames, self.now_ns, PATH, 1, self._frames, columns, gaps, quiet))

    def trouble(self, name: str = "D") -> str:
        self.watch.look()
        device = self.watch.device(f"{PATH}/{name}")
        assert device is not None
        return device.trouble.code

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


def test_a_device_that_nobody_heard_of_says_so_and_one_that_answers_is_fine() -> None:
    desk = Desk(entry(1))
    assert desk.trouble() == "never_heard"
    desk.send(1)
    assert desk.trouble() == "fine"


def test_what_passed_before_this_process_is_remembered() -> None:
    sample = Sample(T0 - SECOND, 3.0, Quality.UNCERTAIN, Reason.STUCK)
    desk = Desk(entry(1), known={1: sample})
    assert desk.trouble() == "stuck"


def test_a_gap_is_known_as_soon_as_it_passes_and_dated_back_to_the_last_good_value() -> None:
    desk = Desk(entry(1))
    desk.send(1)
    good_ns = desk.now_ns
    assert desk.trouble() == "fine"
    desk.pass_s(1)
    desk.miss(1, Reason.TIMEOUT)
    assert desk.trouble() == "timeout"
    assert desk.watch.devices[0].since_ns == good_ns
    desk.pass_s(1)
    desk.send(1)
    assert desk.trouble() == "fine"


def test_an_old_gap_that_comes_late_does_not_hide_a_newer_value() -> None:
    desk = Desk(entry(1))
    late = Gap(1, desk.now_ns - 5 * SECOND, gap(Reason.TIMEOUT))
    desk.send(1)
    desk.watch.take(Passed(9, desk.now_ns, PATH, 1, 9, (), (late,)))
    assert desk.trouble() == "fine"


def test_silence_is_stale_after_ten_intervals_and_quiet_is_not_silence() -> None:
    desk = Desk(entry(1), entry(2, device="E"))
    desk.send(1)
    desk.send(2)
    for _ in range(16):
        desk.pass_s(1)
        desk.stay(2)
    assert (desk.trouble("D"), desk.trouble("E")) == ("stale", "fine")


def test_a_device_is_as_bad_as_its_worst_stream() -> None:
    desk = Desk(entry(1), entry(2))
    desk.send(1)
    desk.send(2, code=status(Quality.UNCERTAIN, Reason.STUCK))
    assert desk.trouble() == "stuck"
    assert desk.watch.devices[0].worst.stream == "s2"
    desk.send(1, code=status(Quality.BAD, Reason.OUT_OF_RANGE))
    assert desk.trouble() == "out_of_range"
    assert desk.watch.devices[0].worst.stream == "s1"


def test_everything_behind_a_gateway_that_is_away_says_so() -> None:
    desk = Desk(entry(1), entry(2, path=OTHER))
    desk.send(1)
    desk.send(2)
    desk.watch.online = {PATH: False, OTHER: True}
    desk.watch.look()
    assert [device.trouble.code for device in desk.watch.devices] == ["gateway_offline", "fine"]
    desk.watch.online = {PATH: True}
    assert desk.trouble() == "fine"


def test_only_what_changed_is_sent_again() -> None:
    desk = Desk(entry(1), entry(2, device="E"))
    desk.send(1)
    desk.send(2)
    desk.watch.look()
    version = desk.watch.version
    desk.watch.look()
    assert desk.watch.version == version
    desk.miss(2, Reason.SILENT)
    desk.watch.look()
    assert [device.entry.device for device in desk.watch.devices if device.changed > version] == ["E"]


def test_the_catalogue_is_followed_and_what_was_known_stays() -> None:
    desk = Desk(entry(1))
    desk.send(1, code=status(Quality.BAD, Reason.SENSOR_FAULT))
    assert desk.trouble() == "sensor_fault"
    since_ns = desk.watch.devices[0].since_ns
    desk.catalogue.entries += [entry(2), entry(3, device="E"), entry(4, device="gone", until_ns=T0)]
    desk.catalogue.version += 1
    desk.send(2)
    desk.send(3)
    assert (desk.trouble("D"), desk.trouble("E")) == ("sensor_fault", "fine")
    assert desk.watch.devices[0].since_ns == since_ns
    assert len(desk.watch.devices) == 2
    desk.catalogue.entries = [entry(3, device="E")]
    desk.catalogue.version += 1
    assert desk.trouble("E") == "fine"
    assert desk.watch.device(f"{PATH}/D") is None


def test_the_shape_of_the_newest_values_is_bounded_and_never_of_words() -> None:
    desk = Desk(entry(1), entry(2, device="E", kind=Kind.TEXT))
    for number in range(100):
        desk.pass_s(0.01)
        desk.send(1, float(number))
        desk.send(2, "secret")
    desk.send(1, float("nan"))
    first, second = desk.watch.devices
    shape = desk.watch.spark(first)
    assert (len(shape), shape[0], shape[-1], list(shape)) == (SPARK, "0", "z", sorted(shape))
    assert desk.watch.spark(second) == ""


def test_alarms_that_are_sent_when_there_is_one_do_not_make_a_device_silent() -> None:
    desk = Desk(entry(1), entry(2, scheduled=False, alarm=True))
    desk.send(1)
    assert desk.trouble() == "fine"


def test_every_status_has_a_trouble_in_words_of_both_languages() -> None:
    assert len(OF_STATUS) == 256
    for trouble in TROUBLES:
        assert trouble.kind in KINDS
        assert all(trouble.cause), trouble.code
        assert all(trouble.todo), trouble.code
    for reason in Reason:
        if reason is not Reason.NONE:
            assert reason.name.lower() in BY_CODE, reason
    assert TROUBLES[OF_STATUS[gap(Reason.CAMERA_BLIND)]].kind == "blind"
    assert TROUBLES[OF_STATUS[status(Quality.GOOD)]].code == "fine"


def test_ten_thousand_devices_are_judged_together() -> None:
    entries = [entry(number, device=f"d{number // 10}", stream=f"s{number % 10}") for number in range(100_000)]
    desk = Desk(*entries)
    assert len(desk.watch.devices) == 10_000
    for number in range(0, 100_000, 2):
        desk.send(number)
    desk.watch.look()
    assert {device.trouble.code for device in desk.watch.devices} == {"never_heard"}
