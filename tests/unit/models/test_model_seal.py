"""Sealing writes two keys and leaves the card as a person wrote it; the self-test holds what was found."""

import hashlib
from pathlib import Path

import cv2
import model_kit
import numpy as np
import pytest
import yaml

from contract.errors import ConfigError
from models import golden, seal
from models.boxes import Detections
from models.cards import load_card
from models.registry import load

HANDMADE = """\
# Our detector. Comments stay.
task: detect
about: Colours.
golden:
  seed: 9
  tolerance: 0.05

  # old
  outputs: {output0: {shape: [1], samples: [1.0]}}
input: {name: images, width: 64, height: 32, layout: NCHW, dtype: float32, colour: RGB, normalise: {divide_by: 255.0}}
classes: [red, green, blue]  # in this order
head: yolov8
sha256: old
# After the hash.
thresholds: {confidence: 0.9}
licence: Apache-2.0
training_data: none
accuracy: not measured
limits:
- Three colours.
"""


def handmade(folder: Path, text: str = HANDMADE) -> Path:
    path = model_kit.colours(folder)
    path.write_text(text, encoding="utf-8")
    return path


def test_sealing_changes_two_keys_and_nothing_else(tmp_path: Path) -> None:
    path = handmade(tmp_path)
    seal.seal(tmp_path, "colours")
    text = path.read_text(encoding="utf-8")
    kept = [line for line in HANDMADE.splitlines() if not line.startswith(("golden", "  ", "sha256")) and line]
    assert [line for line in text.splitlines() if line in kept] == kept
    assert sum(line.startswith("golden:") for line in text.splitlines()) == 1
    assert text.count("sha256:") == 1
    assert yaml.safe_load(text)["golden"]["tolerance"] == 0.05
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["colours.onnx", "colours.yaml"]
    load(tmp_path, "colours")


def test_sealing_twice_is_sealing_once(tmp_path: Path) -> None:
    path = handmade(tmp_path)
    seal.seal(tmp_path, "colours")
    once = path.read_text(encoding="utf-8")
    seal.seal(tmp_path, "colours")
    assert path.read_text(encoding="utf-8") == once


def test_a_new_card_needs_neither_key(tmp_path: Path) -> None:
    text = HANDMADE.replace("sha256: old\n", "").replace(
        HANDMADE[HANDMADE.index("golden") : HANDMADE.index("input")], ""
    )
    handmade(tmp_path, text)
    assert seal.main([str(tmp_path), "colours"]) == 0
    load(tmp_path, "colours")


def test_a_card_that_does_not_fit_is_not_sealed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = handmade(tmp_path, HANDMADE.replace("green, ", ""))
    before = path.read_text(encoding="utf-8")
    assert seal.main([str(tmp_path), "colours"]) == 2
    assert "expected (1, 6, N): 4 and the card's 2 classes" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == before


def test_a_picture_is_sealed_with_what_was_surely_found_in_it(tmp_path: Path) -> None:
    handmade(tmp_path)
    large = cv2.resize(model_kit.canvas(), (640, 320), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "street.png"), large)
    seal.seal(tmp_path, "colours", tmp_path / "street.png")
    file = load_card(tmp_path, "colours")
    assert file.card.golden.file == "colours.golden.npz"
    canvas, found = golden.read_file(file, "colours.golden.npz")
    np.testing.assert_array_equal(canvas, model_kit.canvas())
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(model_kit.FOUND.values())


def test_a_model_that_no_longer_finds_it_is_refused(tmp_path: Path) -> None:
    path = handmade(tmp_path)
    cv2.imwrite(str(tmp_path / "street.png"), model_kit.canvas())
    seal.seal(tmp_path, "colours", tmp_path / "street.png")
    path.write_text(path.read_text(encoding="utf-8").replace("colour: RGB", "colour: BGR"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"golden: the self-test on cpu failed: class . at .* not found; 3 others"):
        load(tmp_path, "colours")


def test_a_picture_with_nothing_in_it_proves_nothing(tmp_path: Path) -> None:
    handmade(tmp_path)
    cv2.imwrite(str(tmp_path / "night.png"), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(ConfigError, match="the model finds nothing in it"):
        seal.seal(tmp_path, "colours", tmp_path / "night.png")
    with pytest.raises(ConfigError, match="cannot be read as a picture"):
        seal.seal(tmp_path, "colours", tmp_path / "colours.onnx")


def test_a_golden_file_too_large_is_not_written(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (192, 320, 3)).astype(np.uint8)
    one = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    with pytest.raises(ConfigError, match=r"would be 1\d\d,\d\d\d bytes, at most 100,000"):
        golden.write_file(tmp_path / "x.golden.npz", noise, one)
    assert not (tmp_path / "x.golden.npz").exists()


@pytest.mark.parametrize("damage", ["junk", "cut", "wide", "empty", "pickle"])
def test_a_damaged_golden_file_is_told(tmp_path: Path, damage: str) -> None:
    handmade(tmp_path)
    cv2.imwrite(str(tmp_path / "street.png"), model_kit.canvas())
    seal.seal(tmp_path, "colours", tmp_path / "street.png")
    path = tmp_path / "colours.golden.npz"
    with np.load(path) as held:
        parts = {key: held[key] for key in held}
    if damage == "junk":
        path.write_bytes(b"junk")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "wide":
        parts["png"][16:20] = (0x7F, 255, 255, 255)  # claims two thousand million columns
        np.savez(path, **parts)
    elif damage == "empty":
        np.savez(path, **{**parts, "boxes": parts["boxes"][:0], "scores": [], "classes": []})
    else:
        np.savez(path, **{**parts, "scores": np.array([{}], object)})
    with pytest.raises(ConfigError, match=r"colours\.golden\.npz: "):
        load(tmp_path, "colours")


def test_the_drawn_picture_never_changes() -> None:
    drawn = golden.picture(1, (320, 192))
    assert drawn.shape == (192, 320, 3)
    # Cards hold what models answer to these very pixels.
    wanted = "9e9962009d2afef2c8337046117779da8ebf7db644f372fb4271ae8e7ec6124e"
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == wanted
