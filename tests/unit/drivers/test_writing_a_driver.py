"""The driver that docs/writing-a-driver.md shows is the one that runs here."""

import importlib.util
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from contract.errors import DeviceUnavailable
from contract.readings import Reason, gap
from drivers.base import Scan
from drivers.registry import GROUP, Registry

PAGE = Path(__file__).parents[3] / "docs" / "writing-a-driver.md"


def code_of(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "weinao_onewire.py"
    path.write_text(code_of("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.spec_from_file_location("weinao_onewire", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_example_reads_a_sensor_and_explains_what_it_cannot(example: ModuleType, tmp_path: Path) -> None:
    [raw] = yaml.safe_load(code_of("yaml"))["buses"]
    spec = example.OneWireBus.model_validate({**raw, "folder": str(tmp_path / "w1")})
    scan = Scan(spec.devices[0], spec.devices[0].streams, 10)
    bus: Any = example.DRIVER.connect(spec, [scan])
    with pytest.raises(DeviceUnavailable, match="is w1-gpio loaded"):
        await bus.open()
    sensor = tmp_path / "w1" / "28-00000a1b2c3d" / "w1_slave"
    sensor.parent.mkdir(parents=True)
    await bus.open()
    with pytest.raises(DeviceUnavailable, match="No such file"):
        await bus.poll(scan)
    sensor.write_text("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=-1062\n")
    assert (await bus.poll(scan)).floats.tolist() == [-1062]
    sensor.write_text("50 05 4b 46 7f ff 0c 10 1c : crc=1d NO\n50 05 4b 46 7f ff 0c 10 1c t=85000\n")
    assert (await bus.poll(scan)).status.tolist() == [gap(Reason.GARBAGE)]
    await bus.close()


def test_the_entry_point_of_the_page_registers_it(example: ModuleType) -> None:
    name, value = re.findall(r'^ *(\w+) = "(\S+)"$', code_of_entry_point(), re.MULTILINE)[0]
    registry = Registry(installed=lambda: [EntryPoint(name=name, value=value, group=GROUP)])
    assert registry.get("onewire").bus_spec.__name__ == example.OneWireBus.__name__


def code_of_entry_point() -> str:
    found = re.search(rf'\[project\.entry-points\."{GROUP}"\]\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]
