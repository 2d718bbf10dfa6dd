"""Every file of tests/cases/bad-config is refused, with exactly the message that its case expects.

A case is a folder: gateway.yaml, and expected.txt with one line a problem. Adding one adds no code.
"""

from pathlib import Path

import pytest

import gateway
from drivers.registry import Registry
from edge import cli

CASES = sorted((Path(__file__).resolve().parents[2] / "cases" / "bad-config").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_configuration_is_refused(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["check", str(case / "gateway.yaml")], Registry(), gateway.run)
    said = capsys.readouterr().err.replace(f"{case}/", "")
    assert said == (case / "expected.txt").read_text(encoding="utf-8")
    assert code == 2


def test_a_file_that_is_not_there_names_the_folders_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("gateway: {}", encoding="utf-8")
    assert cli.main(["check", str(tmp_path / "gatewy.yaml")], Registry(), gateway.run) == 2
    assert f"gatewy.yaml: no such file. Did you mean {tmp_path / 'gateway.yaml'}?" in capsys.readouterr().err


def test_wrong_arguments_exit_with_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["chekc"], Registry(), gateway.run)
    assert stopped.value.code == 2
