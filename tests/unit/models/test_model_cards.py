"""A wrong card names its line; a folder tells what is in it, broken things included."""

import hashlib
import re
from pathlib import Path
from typing import Any

import model_kit
import pytest
import yaml

from contract.errors import ConfigError
from models.cards import Card, class_map, list_models, load_card

GOOD = f"""\
task: detect
about: Cars on a street.
input:
  name: images
  width: 320
  height: 192
  layout: NHWC
  dtype: uint8
  colour: BGR
  normalise: in graph
classes: [person, bicycle, car, truck]
head: yolov8
thresholds: {{confidence: 0.4}}
licence: Apache-2.0
training_data: Drawn streets.
accuracy:
  - {{measure: mAP50, value: 0.81, data: held-out streets}}
limits: [Knows only drawn streets.]
sha256: {"0" * 64}
golden: {{seed: 1, outputs: {{output0: {{shape: [1, 8, 1260], samples: [0.5]}}}}}}
"""


def problems(folder: Path, text: str, name: str = "street") -> list[str]:
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_card(folder, name)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


def test_a_card_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "street.yaml").write_text(GOOD, encoding="utf-8")
    file = load_card(tmp_path, "street")
    assert file.model_path == tmp_path / "street.onnx"
    assert file.card.head.kind == "yolov8"
    assert (file.card.thresholds.iou, file.card.thresholds.max_detections) == (0.5, 100)
    assert file.card.reported == ("person", "bicycle", "car", "truck")
    assert file.card.accuracy != "not measured"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("yolov8", "yolo8", "street.yaml:12:7: head: unknown head 'yolo8'; known: yolov5, yolov8, yolox, ssd, nms"),
        ("yolov8", "[yolov8]", "street.yaml:12:7: head: expected one of yolov5, yolov8"),
        ("yolov8", "{kind: yolov8, stride: 8}", "street.yaml:12:22: head.stride: unknown key; did you mean 'strides'?"),
        ("yolov8", "{kind: nms}", "street.yaml:12:7: head.nms: expected 'columns' of the one output, or the names of"),
        ("yolov8", "{kind: nms, columns: [box, score]}", "columns: expected box, score and class, and perhaps picture"),
        ("yolov8", "{kind: rtdetr, boxes: b}", "expected one 'output', or both 'boxes' and 'scores'"),
        ("yolov8", "{kind: yolox, strides: ['8']}", "head.strides.0: found '8', expected"),
        ("yolov8", "{kind: segment}", "head: 'segment' answers task 'segment', but task is 'detect'"),
        ("width: 320", "width: '320'", "street.yaml:5:10: input.width: found '320', expected a valid integer"),
        ("width: 320", "width: 9000", "street.yaml:5:10: input.width: found 9000, expected less than or equal to 2048"),
        ("colour", "color", "street.yaml:9:3: input.color: unknown key; did you mean 'colour'?"),
        ("NHWC", "HWC", "input.layout: found 'HWC', expected 'NCHW' or 'NHWC'"),
        ("in graph", "{divide_by: 255}", "normalise: expected 'in graph', because dtype is uint8"),
        ("bicycle, car", "person, car", "classes: 'person' stands there twice"),
        ("person, bicycle", "person/x, bicycle", "street.yaml:11:11: classes.0: a name is 1 to 64 letters"),
        ("confidence: 0.4", "confidence: 40", "thresholds.confidence: found 40, expected less than 1"),
        ("licence: Apache-2.0\n", "", "licence: missing; this key is required"),
        (
            "limits: [Knows only drawn streets.]",
            "limits: []",
            "limits: found a list, expected List should have at least 1",
        ),
        ("0" * 64, "ABC", "sha256: found 'ABC'"),
        ("seed: 1, ", "", "golden: expected either 'seed' with 'outputs', or 'file'"),
        ("seed: 1", "file: ../x.npz", "golden.file: a name is 1 to 64 letters"),
        ("limits:", "report: {car: [car, lorry]}\nlimits:", "report: 'lorry' is none of the model's classes"),
        ("limits:", "report: {car: [car], van: [car]}\nlimits:", "report: 'car' stands there twice"),
        ("task: detect", "task: detec", "street.yaml:1:7: task: found 'detec', expected"),
    ],
)
def test_each_mistake_is_told_with_its_place(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert before in GOOD
    found = problems(tmp_path, GOOD.replace(before, after))
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("name", ["../street", "a/b", "/etc/passwd", "", ".hidden", "x" * 65, "a\x00b"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is 1 to 64"):
        load_card(tmp_path, name)


def test_neither_can_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "street.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "street.yaml").symlink_to(tmp_path / "elsewhere" / "street.yaml")
    with pytest.raises(ConfigError, match="leads out of"):
        load_card(tmp_path / "models", "street")


def test_a_missing_card_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "street-small.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"street-smal\.yaml: no such file\. Did you mean .*street-small\.yaml"):
        load_card(tmp_path, "street-smal")


def test_the_list_tells_good_models_and_why_others_are_not(tmp_path: Path) -> None:
    model_kit.colours(tmp_path, "good")
    model_kit.colours(tmp_path, "changed")
    (tmp_path / "changed.onnx").write_bytes(b"something else")
    (tmp_path / "alone.onnx").write_bytes(b"x")
    model_kit.colours(tmp_path, "lost")
    (tmp_path / "lost.onnx").unlink()
    listed = {entry.name: entry for entry in list_models(tmp_path)}
    assert list(listed) == ["alone", "changed", "good", "lost"]
    assert listed["good"].problems == []
    good = listed["good"].card
    assert good is not None
    assert good.classes == ("red", "green", "blue")
    told = hashlib.sha256(b"something else").hexdigest()
    assert f"sha256: changed.onnx has SHA-256 {told}: it is not the file of this card" in listed["changed"].problems[0]
    assert "alone.yaml: no such file" in listed["alone"].problems[0]
    assert "lost.onnx: no such file; its card stands beside it" in listed["lost"].problems[0]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        list_models(tmp_path / "nowhere")


def test_classes_are_reported_as_the_card_says(tmp_path: Path) -> None:
    report = "report: {cyclist: [bicycle], car: [car, truck]}\nlimits:"
    (tmp_path / "street.yaml").write_text(GOOD.replace("limits:", report), encoding="utf-8")
    card: Card = load_card(tmp_path, "street").card
    assert card.reported == ("cyclist", "car")
    assert class_map(card) == [-1, 0, 1, 1]


@pytest.mark.parametrize("value", [".nan", ".inf", "1.0e+400"])
def test_no_number_of_a_card_is_infinite(tmp_path: Path, value: str) -> None:
    text = GOOD.replace("value: 0.81", f"value: {value}")
    assert any("accuracy" in line and "finite" in line for line in problems(tmp_path, text))


def test_a_card_does_not_change() -> None:
    changed: Any = Card.model_validate(model_kit.CARD | {"sha256": "0" * 64} | model_kit.UNSEALED)
    with pytest.raises(ValueError, match="frozen"):
        changed.task = "segment"


DOC = (Path(__file__).parents[3] / "docs" / "bring-a-model.md").read_text(encoding="utf-8")


def test_the_card_of_the_documentation_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(task:.*?)```", DOC, re.DOTALL)
    card = Card.model_validate(yaml.safe_load(text) | {"sha256": "0" * 64} | model_kit.UNSEALED)
    assert card.reported == ("person", "cyclist", "car", "bus")


def test_every_head_of_the_documentation_is_one() -> None:
    heads = re.findall(r"^`?head: (\{.*?\})", DOC, re.MULTILINE)
    assert len(heads) == 5
    for head in heads:
        Card.model_validate(model_kit.CARD | {"head": yaml.safe_load(head), "sha256": "0" * 64} | model_kit.UNSEALED)
