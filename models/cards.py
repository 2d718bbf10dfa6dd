"""What a model says about itself: the card, a YAML file beside its ONNX file, and the list of a folder's models.

A model is `NAME.onnx` and `NAME.yaml` in one folder. The card says everything that the picture's way in and the
numbers' way out need, so that a city's own model drops in without code; and it says where the model comes from, how
well it was measured and what it cannot do, because somebody will rely on its counts.

Nothing here needs onnxruntime: a gateway without cameras can still list and check cards.
"""

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints, model_validator

from contract.config_file import MarkedDict, load_yaml, problem_at, validate
from contract.errors import ConfigError
from contract.names import Name, check_name
from models.card_heads import Head, Part

MAX_MODEL_BYTES = 128 * 1024 * 1024
"""A gateway is a board with 1 GB: YOLOv8m (104 MB) still loads, anything above is refused before it is read."""
MAX_GOLDEN_BYTES = 100_000
MAX_PIXELS = 2048 * 2048

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Std = Annotated[float, Field(ge=0.01, le=1000)]
Side = Annotated[int, Field(ge=16, le=2048)]


class Normalise(Part):
    """What the tensor holds of a pixel p of 0..255: (p / divide_by - mean) / std.

    `mean` and `std` are one number a channel, in the order of the card's `colour`.
    """

    divide_by: float = Field(1.0, ge=1, le=65535)
    mean: tuple[Mean, Mean, Mean] = Field((0.0, 0.0, 0.0), strict=False)
    std: tuple[Std, Std, Std] = Field((1.0, 1.0, 1.0), strict=False)


class Input(Part):
    """The tensor that the model takes: one picture, `width` x `height` pixels.

    `also` are further inputs that some exports want, with the numbers they always get
    (`orig_target_sizes: [320, 192]`).
    """

    name: Text
    width: Side
    height: Side
    layout: Literal["NCHW", "NHWC"]
    dtype: Literal["uint8", "float32", "float16"]
    colour: Literal["RGB", "BGR"]
    normalise: Normalise | Literal["in graph"]
    also: dict[str, Annotated[list[float], Field(min_length=1, max_length=8)]] = Field(default={}, max_length=4)

    @model_validator(mode="after")
    def _bytes_stay_bytes(self) -> "Input":
        if self.dtype == "uint8" and self.normalise != "in graph":
            raise ValueError("normalise: expected 'in graph', because dtype is uint8: bytes cannot hold fractions")
        if self.name in self.also:
            raise ValueError(f"also: {self.name!r} is the picture itself")
        return self


class Thresholds(Part):
    """What counts as found.

    confidence: the least score. iou: two boxes of one class that overlap more are one object. max_detections: the
    best of a picture that are kept.
    """

    confidence: float = Field(gt=0, lt=1)
    iou: float = Field(0.5, gt=0, lt=1)
    max_detections: int = Field(100, ge=1, le=1000)


class Accuracy(Part):
    """One measured figure: what was measured, the figure, on which data."""

    measure: Text
    value: float
    data: Text


class GoldenSamples(Part):
    """One output for the golden picture: its shape, and its values at evenly spaced positions of the flat tensor."""

    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(strict=False, max_length=8)
    samples: tuple[float, ...] = Field(strict=False, max_length=256)


class Golden(Part):
    """What the model must answer on this very machine before anybody trusts it. `python -m models.seal` writes it.

    Either the picture drawn from `seed` and samples of each output, or `file`: an .npz with a picture (PNG bytes)
    and the boxes, scores and classes to be found in it. `tolerance` is relative.
    """

    seed: int | None = Field(None, ge=0, le=2**31)
    outputs: dict[str, GoldenSamples] = Field(default={}, max_length=16)
    file: Name | None = None
    tolerance: float = Field(0.02, gt=0, le=0.2)

    @model_validator(mode="after")
    def _one_of_two(self) -> "Golden":
        if (self.seed is None) == (self.file is None):
            raise ValueError("expected either 'seed' with 'outputs', or 'file'")
        if (self.seed is None) == bool(self.outputs):
            raise ValueError("outputs: belongs to 'seed', and 'seed' needs it; python -m models.seal writes both")
        return self


class Card(Part):
    """Everything about one model that is not in its weights."""

    task: Literal["detect", "classify", "segment"]
    about: Text
    input: Input
    classes: tuple[Name, ...] = Field(strict=False, min_length=1, max_length=1000)
    report: dict[Name, Annotated[list[str], Field(min_length=1)]] | None = None
    head: Head
    thresholds: Thresholds
    licence: Text
    training_data: Text
    accuracy: Annotated[list[Accuracy], Field(min_length=1)] | Literal["not measured"]
    limits: list[Text] = Field(min_length=1)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    golden: Golden

    @model_validator(mode="after")
    def _fits(self) -> "Card":
        if len(set(self.classes)) != len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise ValueError(f"classes: {twice!r} stands there twice")
        if self.head.task != self.task:
            raise ValueError(f"head: {self.head.kind!r} answers task {self.head.task!r}, but task is {self.task!r}")
        if self.task != "detect" and self.golden.file is not None:
            raise ValueError("golden: 'file' holds boxes, so only task 'detect' has it; use 'seed'")
        self._check_report()
        return self

    def _check_report(self) -> None:
        if self.report is None:
            return
        if self.task != "detect":
            raise ValueError("report: only task 'detect' has it")
        named = [name for names in self.report.values() for name in names]
        for name in named:
            if name not in self.classes:
                raise ValueError(f"report: {name!r} is none of the model's classes")
            if named.count(name) > 1:
                raise ValueError(f"report: {name!r} stands there twice")

    @property
    def reported(self) -> tuple[str, ...]:
        """The classes that a detection can have: the keys of `report`, or the model's own."""
        return self.classes if self.report is None else tuple(self.report)


class CardFile(NamedTuple):
    """A card, where it stands, and the file it speaks of."""

    name: str
    path: Path
    data: MarkedDict
    card: Card

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path.with_name(self.name + ".onnx")

    def refuse(self, steps: Sequence[str | int], text: str) -> ConfigError:
        """The error that names the card's line of `steps`."""
        return ConfigError([problem_at(self.data, steps, text)])


class Listed(NamedTuple):
    """A model of a folder: its card, or why it cannot be used."""

    name: str
    card: Card | None
    problems: list[str]


def load_card(folder: Path, name: str) -> CardFile:
    """The card of a model. Raises ConfigError with one line a problem."""
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError([f"model {name[:80]!r}: {error}"]) from None
    path = inside(folder, f"{name}.yaml")
    data = load_yaml(path)
    return CardFile(name, path, data, validate(data, Card))


def read_model(file: CardFile) -> bytes:
    """The ONNX file's bytes: those that were hashed, so that nothing else can be loaded. Raises ConfigError."""
    content = read_limited(file.path.parent, file.model_path.name, MAX_MODEL_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != file.card.sha256:
        text = (
            f"{file.model_path.name} has SHA-256 {found}: it is not the file of this card. Copy it again, or, if you "
            "changed it yourself, run: python -m models.seal"
        )
        raise file.refuse(["sha256"], text)
    return content


def list_models(folder: Path) -> list[Listed]:
    """Every model of a folder by name, broken ones with their problems. Raises ConfigError when there is no folder."""
    if not folder.is_dir():
        raise ConfigError([f"{folder}: no such folder; expected one with NAME.onnx and NAME.yaml"])
    names = {path.stem for pattern in ("*.yaml", "*.onnx") for path in folder.glob(pattern)}
    return [_listed(folder, name) for name in sorted(names)]


def _listed(folder: Path, name: str) -> Listed:
    try:
        file = load_card(folder, name)
    except ConfigError as error:
        return Listed(name, None, error.problems)
    try:
        read_model(file)
    except ConfigError as error:
        return Listed(name, file.card, error.problems)
    return Listed(name, file.card, [])


def inside(folder: Path, name: str) -> Path:
    """The path of `name`, an entry of `folder`. Raises ConfigError when it leads out of the folder."""
    path = folder / name
    if Path(name).name != name or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError([f"{path}: leads out of {folder}; a model's files stand in its own folder, without links"])
    return path


def read_limited(folder: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of `folder/name`, of at most `max_bytes`. Raises ConfigError."""
    path = inside(folder, name)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError([f"{path}: is no file"])
        content = path.read_bytes() if status.st_size <= max_bytes else None
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; its card stands beside it"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if content is None or len(content) > max_bytes:
        raise ConfigError([f"{path}: larger than {max_bytes:,} bytes"])
    return content


def class_map(card: Card) -> list[int]:
    """For each class of the model, its position in `card.reported`; -1 for one that is not reported."""
    if card.report is None:
        return list(range(len(card.classes)))
    found: dict[str, int] = {name: at for at, names in enumerate(card.report.values()) for name in names}
    return [found.get(name, -1) for name in card.classes]
