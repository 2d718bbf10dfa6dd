"""Seals a model: writes into its card the hash of its file and what it must answer, on a machine that is trusted.

    python -m models.seal models street-small
    python -m models.seal models city-rtdetr --picture corner.png

Without a picture the answer is that to a drawn pattern: enough where a model answers at each place of a grid. One that
answers with a list (heads nms and rtdetr) orders it by scores that mean nothing on a pattern: it needs a picture in
which it finds something. The picture stays in the golden file beside the card: take one that nobody is on.
"""

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from contract.config_file import MarkedDict, load_yaml, validate
from contract.errors import ConfigError
from models import golden
from models.boxes import Detections
from models.card_heads import Nms, Rtdetr
from models.cards import MAX_MODEL_BYTES, Card, CardFile, inside, read_limited
from models.detector import Detector, Loaded
from models.registry import (
    load,
    load_classifier,
    load_segmenter,
    open_classifier,
    open_detector,
    open_segmenter,
    prove_shapes,
)
from models.types import Canvas

_OPENERS = {"detect": open_detector, "classify": open_classifier, "segment": open_segmenter}
_LOADERS = {"detect": load, "classify": load_classifier, "segment": load_segmenter}
_SEALED = re.compile(r"^(?:sha256|golden):.*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)
_PADDING = 114


def seal(folder: Path, name: str, picture: Path | None = None, *, seed: int = 1) -> Loaded:
    """Write `sha256` and `golden` of a card anew, the rest as it was, and return the model, loaded with it.

    Raises ConfigError when card and model do not fit, or nothing is found in the picture.
    """
    file = _unsealed(folder, name, seed)
    card = file.card
    loaded: Loaded = _OPENERS[card.task](file, "cpu", time.perf_counter)
    if picture is None:
        if isinstance(card.head, Nms | Rtdetr):
            text = f"{card.head.kind}: answers with a list; seal it with a picture that shows something (--picture)"
            raise file.refuse(["head"], text)
        drawn = golden.picture(seed, loaded.input_size)
        outputs = prove_shapes(loaded, drawn)
        samples = {port: golden.sample(output) for port, output in zip(loaded.network.names, outputs, strict=True)}
        rule = card.golden.model_copy(update={"seed": seed, "outputs": samples})
    else:
        rule = card.golden.model_copy(update={"seed": None, "outputs": {}, "file": f"{name}.golden.npz"})
        _write_golden_file(file, loaded, picture)
    plain = rule.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    _rewrite(file, plain)
    return _LOADERS[card.task](folder, name)


def _unsealed(folder: Path, name: str, seed: int) -> CardFile:
    """The card with the hash of the file that is there, and a golden part that says nothing yet."""
    path = inside(folder, f"{name}.yaml")
    data = load_yaml(path)
    content = read_limited(folder, f"{name}.onnx", MAX_MODEL_BYTES)
    before = data.get("golden")
    rule: dict[str, Any] = {"seed": seed, "outputs": {"none": {"shape": [], "samples": []}}}
    if isinstance(before, MarkedDict) and "tolerance" in before:
        rule["tolerance"] = before["tolerance"]
    for key, value in (("sha256", hashlib.sha256(content).hexdigest()), ("golden", rule)):
        data[key] = value
        data.keys_at[key] = data.values_at[key] = data.mark
    return CardFile(name, path, data, validate(data, Card))


def _write_golden_file(file: CardFile, loaded: Loaded, picture: Path) -> None:
    if not isinstance(loaded, Detector):
        raise file.refuse(["task"], "a golden picture holds boxes; seal this model without one")
    shown = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if shown is None:
        raise ConfigError([f"{picture}: cannot be read as a picture"])
    canvas = _fit(shown.astype(np.uint8), loaded.input_size)
    prove_shapes(loaded, canvas)
    found = loaded.detect(canvas)
    # What is barely found here may be barely missed elsewhere.
    sure = found.scores >= file.card.thresholds.confidence + 2 * file.card.golden.tolerance
    if not sure.any():
        raise ConfigError([f"{picture}: the model finds nothing in it that is sure enough to be asked for"])
    wanted = Detections(found.boxes[sure], found.scores[sure], found.classes[sure], 0)
    golden.write_file(file.path.with_name(f"{file.name}.golden.npz"), canvas, wanted)


def _fit(picture: Canvas, size: tuple[int, int]) -> Canvas:
    """The picture scaled into a canvas of `size`, the rest grey, as a camera's frames are."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = np.full((size[1], size[0], 3), _PADDING, np.uint8)
    x, y = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return canvas


def _rewrite(file: CardFile, rule: dict[str, Any]) -> None:
    """The card's text with the two keys at its end, in one step: a power cut leaves the old or the new card."""
    text = _SEALED.sub("", file.path.read_text(encoding="utf-8-sig").rstrip("\n") + "\n").rstrip("\n")
    sealed = yaml.safe_dump({"golden": rule}, default_flow_style=None, width=110, sort_keys=False, allow_unicode=True)
    fresh = file.path.with_name(f".{file.path.name}.new")
    fresh.write_text(
        f"{text}\nsha256: {file.card.sha256}  # this and golden: python -m models.seal\n{sealed}", encoding="utf-8"
    )
    fresh.replace(file.path)


def main(arguments: list[str] | None = None) -> int:
    """Seal from the command line; 0 or 2."""
    parser = argparse.ArgumentParser(prog="python -m models.seal", description="Write hash and self-test into a card.")
    parser.add_argument("folder", type=Path, help="the folder that holds NAME.onnx and NAME.yaml")
    parser.add_argument("name")
    parser.add_argument("--picture", type=Path, help="a picture in which the model finds something")
    given = parser.parse_args(arguments)
    try:
        loaded = seal(given.folder, given.name, given.picture)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.name}: sealed, SHA-256 {loaded.card.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
