from pathlib import Path

import pytest
from cloud_frames import PATH, make_birth

from cloud.births import Births
from contract.errors import FrameError
from contract.topics import GatewayPath


def test_births_survive_a_restart_by_epoch(tmp_path: Path) -> None:
    births = Births(tmp_path / "births.sqlite")
    old, new = make_birth(1), make_birth(2)
    births.take(PATH, old.encode())
    births.take(PATH, new.encode())
    births.close()
    again = Births(tmp_path / "births.sqlite")
    assert (again.get(PATH, old.epoch), again.get(PATH, new.epoch)) == (old, new)
    assert again.get(PATH, 12345) is None
    assert again.latest() == {PATH: new}


def test_a_birth_of_another_area_or_gateway_is_refused(tmp_path: Path) -> None:
    births = Births(tmp_path / "births.sqlite")
    elsewhere = GatewayPath("Changzhou", "Xinbei", "Other Road", "gw-1")
    with pytest.raises(FrameError, match="on the topic of Changzhou/Xinbei/Other Road/gw-1"):
        births.take(elsewhere, make_birth(1).encode())
    assert births.get(elsewhere, make_birth(1).epoch) is None


def test_a_gateway_keeps_only_its_latest_births(tmp_path: Path) -> None:
    births = Births(tmp_path / "births.sqlite", keep=3, cached_streams=1)
    made = [make_birth(1, software=str(number)) for number in range(5)]
    for birth in [*made, made[2]]:  # 2 is published again, so it outlives 3 in the end
        births.take(PATH, birth.encode())
    births.take(PATH, make_birth(1, software="new").encode())
    kept = [birth.software for birth in made if births.get(PATH, birth.epoch)]
    assert kept == ["2", "4"]
