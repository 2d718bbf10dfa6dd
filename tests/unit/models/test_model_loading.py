"""Loading proves a model on this machine, or says in one sentence what is wrong with it."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import model_kit
import numpy as np
import onnx_make as make
import pytest
import yaml

from contract.errors import ConfigError, Fatal
from models import seal
from models.cards import MAX_MODEL_BYTES
from models.detector import Usage
from models.registry import load, load_classifier, load_segmenter
from models.sessions import Provider, available

INPUT = model_kit.CARD["input"]


def refused(folder: Path, name: str = "colours", provider: Provider = "cpu") -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, name, provider=provider)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_colours_are_found_where_they_are_whatever_the_model_takes(
    tmp_path: Path, layout: str, dtype: str, colour: str
) -> None:
    # A BGR model has its channels the other way round, so the same classes stand for the same colours.
    content = make.colour_finder(64, 32, layout, dtype, swap=colour == "BGR")
    normalise: Any = "in graph" if dtype == "uint8" else {"divide_by": 255.0}
    spec = INPUT | {"layout": layout, "dtype": dtype, "colour": colour, "normalise": normalise}
    model_kit.colours(tmp_path, content=content, input=spec)
    seal.seal(tmp_path, "colours")
    detector = load(tmp_path, "colours")
    found = detector.detect(model_kit.canvas())
    assert detector.input_size == (64, 32)
    named = {detector.classes[kind]: tuple(box) for kind, box in zip(found.classes, found.boxes.tolist(), strict=True)}
    assert named == model_kit.FOUND
    assert found.scores == pytest.approx([1, 1, 1], abs=1e-3)


def test_reported_classes_are_merged_before_overlaps_are(tmp_path: Path) -> None:
    rows = np.array([[[20, 20, 10, 10, 0.6, 0.5, 0.1], [20, 20, 10, 10, 0.2, 0.9, 0.1], [40, 10, 9, 9, 0, 0, 0.95]]])
    outputs = {"output0": np.ascontiguousarray(rows.transpose(0, 2, 1)).astype(np.float32)}
    limits = {"confidence": 0.4, "iou": 0.5}
    model_kit.fixed(tmp_path, outputs, report={"warm": ["green", "red"]}, thresholds=limits)
    detector = seal.seal(tmp_path, "fixed")
    found = load(tmp_path, "fixed").detect(model_kit.canvas())
    assert detector.classes == ("warm",)
    assert found.classes.tolist() == [0]
    assert found.scores == pytest.approx([0.9])
    assert found.dropped == 0  # a class that nobody asked for is not nonsense


def test_a_camera_may_ask_for_another_confidence_and_the_card_limits_the_number(tmp_path: Path) -> None:
    model_kit.colours(tmp_path, thresholds={"confidence": 0.9, "max_detections": 2})
    seal.seal(tmp_path, "colours")
    detector = load(tmp_path, "colours")
    assert len(detector.detect(model_kit.canvas()).scores) == 2
    assert len(detector.detect(np.full((32, 64, 3), 180, np.uint8)).scores) == 0
    assert len(detector.detect(np.full((32, 64, 3), 180, np.uint8), confidence=0.7).scores) == 2


def test_usage_counts_pictures_seconds_and_nonsense(tmp_path: Path) -> None:
    rows = np.array([[[20, 20, 10, 10, 0.6, 0.5, 0.1], [900, 20, 10, 10, 0.2, 0.9, 0.1]]]).transpose(0, 2, 1)
    model_kit.fixed(
        tmp_path, {"o": np.ascontiguousarray(rows).astype(np.float32)}, thresholds={"confidence": 0.4, "iou": 0.5}
    )
    seal.seal(tmp_path, "fixed")
    ticks = itertools.count(0.0, 0.25)
    detector = load(tmp_path, "fixed", clock=lambda: next(ticks))
    assert detector.usage == Usage()
    for _ in range(2):
        detector.detect(model_kit.canvas())
    assert detector.usage == Usage(pictures=2, busy_s=0.5, last_s=0.25, slowest_s=0.25, dropped=2)


def test_a_canvas_of_another_size_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    seal.seal(tmp_path, "colours")
    with pytest.raises(ValueError, match=r"uint8 \(32, 64, 3\)"):
        load(tmp_path, "colours").detect(np.zeros((64, 32, 3), np.uint8))


def test_another_file_than_the_cards_is_refused(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    content = bytearray((tmp_path / "colours.onnx").read_bytes())
    content[-1] ^= 1
    (tmp_path / "colours.onnx").write_bytes(content)
    assert "colours.yaml:26:9: sha256: colours.onnx has SHA-256" in refused(tmp_path)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    (tmp_path / "colours.onnx").unlink()
    assert "colours.onnx: no such file; its card stands beside it" in refused(tmp_path)


def test_a_pipe_or_a_folder_in_the_place_of_a_model_is_refused(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    (tmp_path / "colours.onnx").unlink()
    os.mkfifo(tmp_path / "colours.onnx")  # reading it would wait for ever
    assert refused(tmp_path).endswith("colours.onnx: is no file")
    (tmp_path / "colours.onnx").unlink()
    (tmp_path / "colours.onnx").mkdir()
    assert refused(tmp_path).endswith("colours.onnx: is no file")


def test_a_model_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    model_kit.colours(folder)
    (folder / "colours.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "colours.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert "leads out of" in refused(folder)


def test_a_model_too_large_for_a_gateway_is_refused_without_being_read(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    with (tmp_path / "colours.onnx").open("wb") as stream:
        stream.truncate(MAX_MODEL_BYTES + 1)  # a file of holes: it takes no disk
    assert refused(tmp_path).endswith("colours.onnx: larger than 134,217,728 bytes")


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    nodes = [make.node("Identity", "w", "output0"), make.node("Shape", "images", "unused")]
    content = make.model(
        nodes,
        [make.port("images", "float32", (1, 3, 32, 64))],
        [make.port("output0", "float32", (3,))],
        [make.external_tensor("w", [3], "weights.bin")],
    )
    model_kit.colours(tmp_path, content=content)
    assert "tensor 'w' keeps its numbers in another file; export the model as one file" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model at all", make.field(8, b""), make.model([], [], [], [])])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    model_kit.write(tmp_path, "colours", content)
    told = refused(tmp_path)
    assert "colours.onnx: not an ONNX model" in told or "onnxruntime refuses it" in told or "no input" in told


def test_an_operator_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    picture = make.port("images", "float32", (1, 3, 32, 64))
    content = make.model([make.node("Clairvoyance", "images", "o")], [picture], [make.port("o", "float32", (1,))], [])
    model_kit.colours(tmp_path, content=content)
    assert "colours.onnx: onnxruntime refuses it: " in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"input": INPUT | {"name": "image"}},
            "input.name: the model has no input 'image'; images float (1, 3, 32, 64)",
        ),
        (
            {"input": INPUT | {"width": 96}},
            "input: NCHW (1, 3, 32, 96), but the model takes images float (1, 3, 32, 64)",
        ),
        ({"input": INPUT | {"layout": "NHWC"}}, "input: NHWC (1, 32, 64, 3), but the model takes images"),
        ({"input": INPUT | {"dtype": "float16"}}, "input.dtype: found float16, but the model takes images float"),
        ({"input": INPUT | {"also": {"size": [1.0]}}}, "input.also.size: the model has no such input of numbers"),
        (
            {"head": {"kind": "yolov8", "output": "boxes"}},
            "head: the model has no output 'boxes'; it has output0 float",
        ),
        (
            {"classes": ["red", "green"]},
            "head: yolov8: the output has shape (1, 7, 32), expected (1, 6, N): 4 and the card's 2 classes",
        ),
        ({"head": "yolov5"}, "head: yolov5: the output has shape (1, 7, 32), expected (1, N, 8)"),
        ({"head": "yolox"}, "expected (1, 42, 8): the cells of strides 8, 16, 32, 5 and the card's 3 classes"),
        ({"head": "ssd"}, "head: the model has no output 'boxes'"),
        (
            {"head": "rtdetr"},
            "head: rtdetr: the output has shape (1, 7, 32), expected (1, N, 7): 4, the card's 3 classes",
        ),
        ({"head": {"kind": "nms", "columns": ["box", "score", "class"]}}, "(1, N, 6): columns box, score, class"),
        ({"input": INPUT | {"normalise": "in graph"}}, "32 of 32 scores are not within 0..1: are they logits?"),
    ],
)
def test_a_card_that_is_not_this_models_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    model_kit.colours(tmp_path, **changes)
    told = refused(tmp_path)
    assert expected in told
    assert "colours.yaml:" in told


def test_free_lengths_fit_any_card_and_further_inputs_get_their_numbers(tmp_path: Path) -> None:
    ports = [make.port("images", "float32", ("n", 3, "h", "w")), make.port("sizes", "int64", ("n", 2))]
    nodes = [
        make.node("Cast", "sizes", "real", to=1),
        make.node("Concat", "real real", "box", axis=1),
        make.node("Reshape", "box three", "boxes"),
        make.node("Shape", "images", "unused"),
        make.node("Identity", "score", "scores"),
        make.node("Identity", "label", "labels"),
    ]
    tensors = [
        make.tensor("three", np.array([1, 1, 4], np.int64)),
        make.tensor("score", np.array([[0.9]], np.float32)),
        make.tensor("label", np.array([[1]], np.int64)),
    ]
    outputs = [make.port("boxes", "float32", (1, 1, 4)), make.port("scores", "float32", (1, 1))]
    content = make.model(nodes, ports, [*outputs, make.port("labels", "int64", (1, 1))], tensors)
    head = {"kind": "rtdetr", "boxes": "boxes", "scores": "scores", "labels": "labels"}
    head |= {"format": "cxcywh", "unit": "pixels"}
    limits = {"confidence": 0.5}
    path = model_kit.colours(tmp_path, content=content, head=head, thresholds=limits)
    assert "input: the model also takes sizes int64 (?, 2); give its numbers under input.also" in refused(tmp_path)
    model_kit.colours(tmp_path, content=content, head=head, thresholds=limits, input=INPUT | {"also": {"sizes": [1.0]}})
    assert "input.also.sizes: found 1 numbers, but the model takes sizes int64 (?, 2)" in refused(tmp_path)
    spec = INPUT | {"also": {"sizes": [20.0, 12.0]}}
    model_kit.colours(tmp_path, content=content, head=head, thresholds=limits, input=spec)
    picture = tmp_path / "street.png"
    cv2.imwrite(str(picture), model_kit.canvas())
    seal.seal(tmp_path, "colours", picture)
    found = load(tmp_path, "colours").detect(model_kit.canvas())
    assert found.boxes.tolist() == [[10, 6, 30, 18]]
    assert "file: colours.golden.npz" in path.read_text(encoding="utf-8")


def test_a_machine_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    path = model_kit.colours(tmp_path)
    seal.seal(tmp_path, "colours")
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    samples = card["golden"]["outputs"]["output0"]["samples"]
    samples[40] *= 1.05
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    told = refused(tmp_path)
    assert "golden: the self-test on cpu failed: 1 of 48 values differ; output 'output0' at " in told
    assert "This machine does not compute what the card says" in told


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"other": {"shape": [1, 7, 32], "samples": [0.0]}}, "there are no samples of output 'output0'"),
        ({"output0": {"shape": [1, 7, 31], "samples": [0.0]}}, "has shape (1, 7, 32), expected (1, 7, 31)"),
        ({"output0": {"shape": [1, 7, 32], "samples": [0.0]}}, "has 1 samples, expected 48"),
    ],
)
def test_a_self_test_of_another_model_is_refused(tmp_path: Path, outputs: dict[str, Any], expected: str) -> None:
    model_kit.colours(tmp_path, golden={"seed": 1, "outputs": outputs})
    assert expected in refused(tmp_path)


@pytest.mark.parametrize("provider", ["openvino", "cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_told_with_those_that_are(tmp_path: Path, provider: Provider) -> None:
    model_kit.colours(tmp_path)
    ready = ", ".join(available())
    assert f"provider {provider!r} is not in the onnxruntime installed here; available: {ready}." in refused(
        tmp_path, provider=provider
    )


def test_a_detector_is_no_classifier(tmp_path: Path) -> None:
    model_kit.colours(tmp_path)
    with pytest.raises(ConfigError, match=r"colours\.yaml:1:7: task: is 'detect', but a model with task 'classify'"):
        load_classifier(tmp_path, "colours")
    with pytest.raises(ConfigError, match="task: is 'detect', but a model with task 'segment'"):
        load_segmenter(tmp_path, "colours")


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_kit.colours(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "install it: pip install 'weinao[vision]'" in refused(tmp_path)


@pytest.mark.parametrize("missing", ["cv2", "onnxruntime"])
def test_on_a_gateway_without_vision_the_module_still_imports_and_says_what_to_install(
    tmp_path: Path, missing: str
) -> None:
    model_kit.colours(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        f"sys.modules[{missing!r}] = None\n"
        "from contract.errors import ConfigError\n"
        "from models.registry import load\nfrom models.cards import list_models\n"
        f"print(len(list_models(Path({str(tmp_path)!r}))))\n"
        f"try: load(Path({str(tmp_path)!r}), 'colours')\nexcept ConfigError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
    assert told.startswith("1\nvision needs ")
    assert told.endswith("install it: pip install 'weinao[vision]'\n")


def test_a_model_that_fails_at_work_asks_for_a_restart(tmp_path: Path) -> None:
    picture = make.port("images", "float32", (1, 3, 32, 64))
    # Its mean brightness picks one of 200 rows: on a white picture, the 256th.
    nodes = [
        make.node("ReduceMean", "images", "mean", keepdims=0),
        make.node("Cast", "mean", "index", to=7),
        make.node("Gather", "rows index", "chosen", axis=0),
        make.node("Reshape", "chosen shape", "o"),
    ]
    tensors = [
        make.tensor("rows", np.full((200, 5), 0.5, np.float32)),
        make.tensor("shape", np.array([1, 5, 1], np.int64)),
    ]
    content = make.model(nodes, [picture], [make.port("o", "float32", (1, 5, 1))], tensors)
    model_kit.colours(tmp_path, content=content, classes=["red"], input=INPUT | {"normalise": "in graph"})
    seal.seal(tmp_path, "colours")
    detector = load(tmp_path, "colours")
    with pytest.raises(Fatal, match="model colours: inference failed: "):
        detector.detect(np.full((32, 64, 3), 255, np.uint8))
