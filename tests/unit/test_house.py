"""The import contracts are alive: a planted upward import fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "edge", "drivers", "models", "cloud")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "hardware-sim/src/hardware_sim", tmp_path / "hardware_sim")
    for name in ("gateway.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("contract/units.py", "import edge.config"),
        ("edge/clock.py", "import drivers.modbus"),
        ("drivers/serial.py", "import drivers.modbus"),
        ("cloud/births.py", "import edge.config"),
        ("hardware_sim/world.py", "import contract.units"),
    ],
)
def test_a_planted_import_breaks_the_contracts(copy: Path, file: str, planted: str) -> None:
    path = copy / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n{planted}\n", encoding="utf-8")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "BROKEN" in result.stdout


def test_the_house_as_it_stands_keeps_the_contracts(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout
