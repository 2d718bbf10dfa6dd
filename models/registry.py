"""From a folder and a name to a model that was proved on this machine: card, hash, graph, self-test, warm-up.

    detector = load(Path("models"), "street-small")
    found = detector.detect(canvas)

Whatever is wrong is a ConfigError that names the card's line, before the first camera is opened. A model that passed
fails later only with its machine (Fatal).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.boxes import Detections
from models.card_heads import Classify, Nms, Rtdetr, Segment, Ssd, Yolov5, Yolov8, Yolox
from models.cards import CardFile, load_card, read_model
from models.decode import Decoder
from models.decode_dense import Yolov5Decoder, Yolov8Decoder, YoloxDecoder
from models.decode_sets import FinishedDecoder, RowsDecoder, ScoredDecoder
from models.decode_whole import ClassifyDecoder, SegmentDecoder
from models.detector import Classifier, Clock, Detector, Loaded, Network, Segmenter
from models.sessions import Provider
from models.types import Array, Canvas

AnyLoaded = TypeVar("AnyLoaded", bound=Loaded)

WARM_UPS = 3
"""The first run allocates, the second may still plan; nobody should measure or wait for either."""


def load(folder: Path, name: str, *, provider: Provider = "cpu", clock: Clock = time.perf_counter) -> Detector:
    """The detector `name` of a folder, tested and warm. Raises ConfigError."""
    detector = open_detector(load_card(folder, name), provider, clock)
    canvas, expected = _golden(detector.network.file)
    outputs = prove_shapes(detector, canvas)
    _prove_scores(detector, outputs)
    if expected is None:
        _prove_samples(detector, outputs)
    else:
        _prove_found(detector, detector.detect(canvas), expected)
    return _warm(detector, detector.detect, canvas)


def load_classifier(
    folder: Path, name: str, *, provider: Provider = "cpu", clock: Clock = time.perf_counter
) -> Classifier:
    """The classifier `name` of a folder, tested and warm. Raises ConfigError."""
    classifier = open_classifier(load_card(folder, name), provider, clock)
    canvas, _ = _golden(classifier.network.file)
    _prove_samples(classifier, prove_shapes(classifier, canvas))
    return _warm(classifier, classifier.classify, canvas)


def load_segmenter(
    folder: Path, name: str, *, provider: Provider = "cpu", clock: Clock = time.perf_counter
) -> Segmenter:
    """The segmenter `name` of a folder, tested and warm. Raises ConfigError."""
    segmenter = open_segmenter(load_card(folder, name), provider, clock)
    canvas, _ = _golden(segmenter.network.file)
    _prove_samples(segmenter, prove_shapes(segmenter, canvas))
    return _warm(segmenter, segmenter.segment, canvas)


def open_detector(file: CardFile, provider: Provider, clock: Clock) -> Detector:
    """The detector of a card, its hash and inputs checked, its answers not yet. Raises ConfigError."""
    decoder = _decoder(file)
    return Detector(Network(file, read_model(file), provider, clock), decoder)


def open_classifier(file: CardFile, provider: Provider, clock: Clock) -> Classifier:
    """As open_detector."""
    card = file.card
    if not isinstance(card.head, Classify):
        raise file.refuse(["task"], f"is {card.task!r}, but a model with task 'classify' is wanted here")
    decoder = ClassifyDecoder((card.head.output,), len(card.classes), card.head)
    return Classifier(Network(file, read_model(file), provider, clock), decoder)


def open_segmenter(file: CardFile, provider: Provider, clock: Clock) -> Segmenter:
    """As open_detector."""
    card = file.card
    if not isinstance(card.head, Segment):
        raise file.refuse(["task"], f"is {card.task!r}, but a model with task 'segment' is wanted here")
    size = (card.input.width, card.input.height)
    decoder = SegmentDecoder((card.head.output,), len(card.classes), size, card.head)
    return Segmenter(Network(file, read_model(file), provider, clock), decoder)


def prove_shapes(loaded: Loaded, canvas: Canvas) -> list[Array]:
    """The outputs for a canvas. Raises ConfigError when they are not what head and classes of the card say."""
    outputs = loaded.network.outputs(canvas)
    wrong = loaded.shape_problem(outputs)
    if wrong:
        raise loaded.network.file.refuse(["head"], f"{loaded.card.head.kind}: {wrong}")
    return outputs


def _decoder(file: CardFile) -> Decoder:
    """What reads the outputs of a card's detector."""
    card = file.card
    head, classes, size = card.head, len(card.classes), (card.input.width, card.input.height)
    made: Decoder
    if isinstance(head, Yolov8):
        made = Yolov8Decoder((head.output,), classes)
    elif isinstance(head, Yolov5):
        made = Yolov5Decoder((head.output,), classes)
    elif isinstance(head, Yolox):
        made = YoloxDecoder((head.output,), classes, size, head.strides)
    elif isinstance(head, Ssd):
        made = ScoredDecoder((head.boxes, head.scores), classes, size, head)
    elif isinstance(head, Rtdetr) and head.labels is None:
        made = ScoredDecoder((head.boxes, head.scores) if head.boxes else (head.output,), classes, size, head)
    elif isinstance(head, Nms) and head.columns is not None:
        made = RowsDecoder((head.output,), classes, size, head)
    elif isinstance(head, Nms | Rtdetr):
        counted = (head.count,) if isinstance(head, Nms) and head.count else ()
        made = FinishedDecoder((head.boxes, head.scores, head.labels, *counted), classes, size, head)
    else:
        raise file.refuse(["task"], f"is {card.task!r}, but a model with task 'detect' is wanted here")
    return made


def _golden(file: CardFile) -> tuple[Canvas, Detections | None]:
    """The picture of the self-test, and what is to be found in it when the card has it in a file."""
    from models import golden

    rule = file.card.golden
    if rule.file is not None:
        return golden.read_file(file, rule.file)
    return golden.picture(rule.seed or 0, (file.card.input.width, file.card.input.height)), None


def _prove_scores(detector: Detector, outputs: list[Array]) -> None:
    """Raises ConfigError when what the card calls scores are no probabilities, as far as this picture tells."""
    # Finished detections may be filled up with rows of anything that no threshold lets through.
    finished = isinstance(detector.card.head, Nms)
    found = detector.candidates(outputs, detector.card.thresholds.confidence if finished else -np.inf)
    strange = int(np.count_nonzero((found.scores < 0) | (found.scores > 1.001))) + found.dropped
    if strange:
        text = f"{strange} of {len(found.scores) + found.dropped} scores are not within 0..1: are they logits?"
        raise detector.network.file.refuse(["head"], f"{detector.card.head.kind}: {text}")


def _prove_samples(loaded: Loaded, outputs: list[Array]) -> None:
    from models import golden

    _judge(loaded, golden.compare(loaded.card.golden, loaded.network.names, outputs))


def _prove_found(detector: Detector, found: Detections, expected: Detections) -> None:
    from models import golden

    _judge(detector, golden.missed(expected, found, detector.card.golden.tolerance))


def _judge(loaded: Loaded, wrong: str) -> None:
    if wrong:
        network = loaded.network
        text = f"the self-test on {network.provider} failed: {wrong}. This machine does not compute what the card says"
        raise network.file.refuse(["golden"], text)


def _warm(loaded: AnyLoaded, work: Callable[[Canvas], Any], canvas: Canvas) -> AnyLoaded:
    """The model after WARM_UPS pictures, its usage at nothing."""
    for _ in range(WARM_UPS):
        work(canvas)
    loaded.network.forget()
    return loaded
