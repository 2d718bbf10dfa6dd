"""The `head` of a card: how the model's outputs are to be read, one kind each family of exports.

head: yolov8                                    # the word alone, where there is nothing to add
head: {kind: nms, columns: [box, score, class]}
head: {kind: rtdetr, boxes: pred_boxes, scores: logits, activation: sigmoid}
"""

import difflib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Task = Literal["detect", "classify", "segment"]
Column = Literal["box", "score", "class", "picture"]
Activation = Literal["none", "sigmoid", "softmax"]
OutputName = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel):
    """The base of every part of a card: unknown keys are errors, `"320"` is no number, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Yolov5(Part):
    """(1, N, 5 + classes): centre x, centre y, width, height in pixels, objectness, class scores. YOLOv5, v6, v7."""

    task: ClassVar[Task] = "detect"
    kind: Literal["yolov5"]
    output: OutputName | None = None  # None: the model's first one


class Yolov8(Part):
    """(1, 4 + classes, N): centre x, centre y, width, height in pixels, class scores. YOLOv8, v9, v11, v12."""

    task: ClassVar[Task] = "detect"
    kind: Literal["yolov8"]
    output: OutputName | None = None


class Yolox(Part):
    """(1, N, 5 + classes) before the grid is added: offsets and log sizes in strides, objectness, class scores.

    An export with `--decode_in_inference` is laid out as yolov5.
    """

    task: ClassVar[Task] = "detect"
    kind: Literal["yolox"]
    output: OutputName | None = None
    strides: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field((8, 16, 32), strict=False, min_length=1)


class BoxWords(Part):
    """How four numbers are a box: `format` and whether they count `pixels` or are `fractions` of the canvas."""

    format: Literal["xyxy", "yxyx", "cxcywh", "xywh"] = "xyxy"
    unit: Literal["pixels", "fractions"] = "pixels"


class Ssd(BoxWords):
    """Decoded boxes (1, N, 4) and class scores (1, N, classes), no NMS yet.

    background: the scores begin with a class "nothing" that the card does not list.
    """

    task: ClassVar[Task] = "detect"
    kind: Literal["ssd"]
    unit: Literal["pixels", "fractions"] = "fractions"
    boxes: OutputName = "boxes"
    scores: OutputName = "scores"
    activation: Literal["none", "softmax"] = "none"
    background: bool = True


class Nms(BoxWords):
    """Finished detections: NMS is inside the model, or it needs none (YOLOv10, torchvision, TensorFlow, OpenVINO).

    Either one output, a row a detection, with `columns` ("box" is four of them); or outputs `boxes`, `scores`,
    `labels`, of which the first `count` rows count when the model says so. first_class: the label of classes[0].
    """

    task: ClassVar[Task] = "detect"
    kind: Literal["nms"]
    columns: tuple[Column, ...] | None = Field(None, strict=False)
    output: OutputName | None = None
    boxes: OutputName | None = None
    scores: OutputName | None = None
    labels: OutputName | None = None
    count: OutputName | None = None
    first_class: int = Field(0, ge=0, le=1)

    @model_validator(mode="after")
    def _one_of_two(self) -> "Nms":
        three = (self.boxes, self.scores, self.labels)
        if self.columns is None:
            if None in three or self.output is not None:
                raise ValueError("expected 'columns' of the one output, or the names of 'boxes', 'scores', 'labels'")
        else:
            if any((*three, self.count)):
                raise ValueError("columns: belongs to one output; 'boxes', 'scores', 'labels', 'count' to several")
            if sorted(set(self.columns) | {"picture"}) != ["box", "class", "picture", "score"]:
                raise ValueError("columns: expected box, score and class, and perhaps picture, each once")
            if len(set(self.columns)) != len(self.columns):
                raise ValueError("columns: expected each once")
        return self


class Rtdetr(BoxWords):
    """Queries, no NMS: RT-DETR, D-FINE, DETR.

    One output (1, N, 4 + classes), or `boxes` (1, N, 4) and `scores` (1, N, classes). With `labels` the model has
    chosen the classes itself. activation: what makes scores of the numbers; with softmax the last class is "nothing".
    """

    task: ClassVar[Task] = "detect"
    kind: Literal["rtdetr"]
    format: Literal["xyxy", "yxyx", "cxcywh", "xywh"] = "cxcywh"
    unit: Literal["pixels", "fractions"] = "fractions"
    output: OutputName | None = None
    boxes: OutputName | None = None
    scores: OutputName | None = None
    labels: OutputName | None = None
    activation: Activation = "none"

    @model_validator(mode="after")
    def _fits(self) -> "Rtdetr":
        if (self.boxes is None) != (self.scores is None) or (self.output and self.boxes):
            raise ValueError("expected one 'output', or both 'boxes' and 'scores'")
        if self.labels is not None and (self.boxes is None or self.activation != "none"):
            raise ValueError("labels: belongs to 'boxes' and 'scores' that the model has finished (activation: none)")
        return self


class Classify(Part):
    """(1, classes): one score a class. activation: softmax when they are logits."""

    task: ClassVar[Task] = "classify"
    kind: Literal["classify"]
    output: OutputName | None = None
    activation: Literal["none", "softmax"]


class Segment(Part):
    """What each pixel is: (1, classes, h, w) scores, (1, 1, h, w) scores of the second of two classes, or
    (1, h, w) class numbers. activation: sigmoid when the one channel holds logits."""

    task: ClassVar[Task] = "segment"
    kind: Literal["segment"]
    output: OutputName | None = None
    activation: Literal["none", "sigmoid"] = "none"


AnyHead = Yolov5 | Yolov8 | Yolox | Ssd | Nms | Rtdetr | Classify | Segment
KINDS = ("yolov5", "yolov8", "yolox", "ssd", "nms", "rtdetr", "classify", "segment")


def _with_kind(value: Any) -> Any:
    """A plain word stands for the head of that kind. An unknown one is told with the nearest known."""
    head = {"kind": value} if isinstance(value, str) else value
    if not isinstance(head, dict):
        raise ValueError(f"expected one of {', '.join(KINDS)}, or a mapping with 'kind'")  # noqa: TRY004 (pydantic)
    kind = head.get("kind")
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1, cutoff=0.6)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown head {kind!r}; known: {', '.join(KINDS)}{hint}")
    return head


Head = Annotated[AnyHead, Field(discriminator="kind"), BeforeValidator(_with_kind)]
