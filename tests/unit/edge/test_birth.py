"""The catalogue that a configuration comes to: whose data it is, who may see it, and what is never thinned."""

from typing import Any

from contract.catalogue import Birth, Grade, decode_birth
from drivers.base import BusSpec, DeviceSpec, StreamSpec
from edge.birth import alarms_of, make_birth
from edge.config import GatewaySection
from edge.health import health_scan
from edge.streams import StreamTable, scans_of

GATEWAY = GatewaySection.model_validate(
    {
        "id": "gw-1",
        "area": {"city": "宁波", "district": "海曙", "street": "解放南路"},
        "site": {"name": "泵站", "latitude": 29.87, "longitude": 121.54},
        "owner": "水务局",
        "contact": "12345",
        "grade": "shared",
        "shared_with": ["应急管理局"],
        "legal_basis": "条例",
    }
)


def stream(name: str, **settings: Any) -> StreamSpec:
    return StreamSpec.model_validate({"name": name, "quantity": "level", "unit": "m", **settings})


def birth(*devices: DeviceSpec) -> Birth:
    bus = BusSpec(name="bus", driver="none", devices=devices)
    sources = [(scan, True) for device in devices for scan in scans_of(device)]
    table = StreamTable([*sources, (health_scan([device.name for device in devices]), True)])
    return make_birth(GATEWAY, [bus], table.entries, software="1.2.3")


def test_a_stream_inherits_its_gateways_stewardship_and_may_say_otherwise() -> None:
    own = {"owner": "", "grade": "open", "shared_with": [], "legal_basis": "另一条例"}
    made = birth(DeviceSpec(name="well", streams=(stream("level"), stream("flow", **own))))
    level, flow = (one.stewardship for one in made.devices[0].streams)
    assert (level.owner, level.contact, level.grade, level.shared_with) == (
        "水务局",
        "12345",
        Grade.SHARED,
        ("应急管理局",),
    )
    assert (flow.owner, flow.contact, flow.grade, flow.shared_with) == ("", "12345", Grade.OPEN, ())
    assert (level.legal_basis, flow.legal_basis) == ("条例", "另一条例")


def test_a_device_may_be_another_departments_than_its_gateway() -> None:
    device = DeviceSpec(
        name="lamp",
        owner="城管局",
        grade=Grade.RESTRICTED,
        shared_with=(),
        streams=(stream("on"), stream("power", grade="open", owner="供电公司")),
    )
    on, power = (one.stewardship for one in birth(device).devices[0].streams)
    assert (on.owner, on.contact, on.grade, on.shared_with) == ("城管局", "12345", Grade.RESTRICTED, ())
    assert (power.owner, power.grade, power.shared_with) == ("供电公司", Grade.OPEN, ())


def test_without_a_word_a_stream_is_seen_by_nobody() -> None:
    section = GatewaySection.model_validate({"id": "g", "area": {"city": "c", "district": "d", "street": "s"}})
    assert section.grade is Grade.RESTRICTED


def test_the_catalogue_says_what_the_hub_must_know_of_a_stream() -> None:
    settings = {"resolution": 0.01, "valid_range": [0, 9], "interval_s": 5, "alarm": True}
    device = DeviceSpec(
        name="well", manufacturer="Maker", model="M1", serial_number="7", streams=(stream("level", **settings),)
    )
    made = birth(device)
    (found,) = made.devices[0].streams
    assert (found.resolution, found.valid_range, found.interval_s, found.alarm) == (0.01, (0, 9), 5, True)
    assert (found.quantity, found.unit, found.scheduled) == ("level", "m", True)
    assert (made.devices[0].manufacturer, made.devices[0].model, made.devices[0].serial_number) == ("Maker", "M1", "7")
    assert (made.site.latitude, made.software) == (29.87, "1.2.3")


def test_a_device_stands_once_although_its_streams_have_several_intervals() -> None:
    mixed = tuple(stream(f"s{number}", interval_s=1 + number % 2) for number in range(4))
    made = birth(DeviceSpec(name="one", streams=mixed), DeviceSpec(name="two", streams=mixed))
    assert [device.name for device in made.devices] == ["one", "two", "gateway"]
    assert sorted(one.name for one in made.devices[0].streams) == ["s0", "s1", "s2", "s3"]
    ids = [one.id for device in made.devices for one in device.streams]
    assert sorted(ids) == list(range(len(ids)))


def test_the_gateways_own_streams_are_part_of_it_and_its_clock_steps_are_an_alarm() -> None:
    made = birth(DeviceSpec(name="well", streams=(stream("level"), stream("flood", alarm=True))))
    named = {one.id: f"{device.name}/{one.name}" for device in made.devices for one in device.streams}
    assert {named[number] for number in alarms_of(made.encode())} == {"well/flood", "gateway/clock.step"}
    assert alarms_of(None) == frozenset()


def test_one_configuration_is_one_epoch_and_comes_back_from_its_bytes() -> None:
    first, second = (birth(DeviceSpec(name="well", streams=(stream("level"),))) for _ in range(2))
    assert (first.encode(), first.epoch) == (second.encode(), second.epoch)
    assert decode_birth(first.encode()) == first
    other = birth(DeviceSpec(name="well", streams=(stream("level", resolution=0.1),)))
    assert other.epoch != first.epoch
