from pathlib import Path

import yaml

from drivers.base import BusSpec, DeviceSpec, Spec, StreamSpec
from drivers.modbus_spec import ModbusBusSpec, ModbusDevice, ModbusStream

PAGE = (Path(__file__).parents[3] / "docs" / "drivers-modbus.md").read_text(encoding="utf-8")


def test_every_key_is_on_the_page() -> None:
    models: list[tuple[type[Spec], type[Spec]]] = [
        (ModbusBusSpec, BusSpec),
        (ModbusDevice, DeviceSpec),
        (ModbusStream, StreamSpec),
    ]
    own = {key for model, base in models for key in set(model.model_fields) - set(base.model_fields)}
    assert {key for key in own if f"`{key}`" not in PAGE} == set()


def test_the_long_example_is_valid() -> None:
    [bus] = yaml.safe_load(PAGE.split("```yaml")[2].split("```")[0])
    assert len(ModbusBusSpec.model_validate(bus).devices[0].streams) == 6
