"""A loaded model at work: canvas in, what is in it out, timed and counted. Not for several threads at once."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contract.errors import ConfigError
from models.boxes import Candidates, Detections, clean, nms
from models.card_heads import Nms, Rtdetr
from models.cards import Card, CardFile, class_map
from models.decode import Decoder, Shaped
from models.decode_whole import Classification, ClassifyDecoder, Segmentation, SegmentDecoder
from models.sessions import Provider, Session
from models.types import Array, Canvas

if TYPE_CHECKING:
    from models.pictures import PictureWriter

Clock = Callable[[], float]


class Usage(NamedTuple):
    """What a model did since it was loaded. Seconds are those of its clock, from canvas to result.

    dropped: candidates, or whole answers, that made no sense.
    """

    pictures: int = 0
    busy_s: float = 0.0
    last_s: float = 0.0
    slowest_s: float = 0.0
    dropped: int = 0


class Network:
    """A model as far as its outputs, and the clock that times it."""

    def __init__(self, file: CardFile, content: bytes, provider: Provider, clock: Clock) -> None:
        self.file, self.provider, self.clock = file, provider, clock
        self.session = Session(file, content, provider)
        self.names: list[str] = []
        self.usage = Usage()
        self._writer = _writer(file.card)

    def outputs(self, canvas: Canvas) -> list[Array]:
        """The outputs `names` for a canvas. Raises ValueError for a canvas of another shape or type, Fatal."""
        return self.session.run(self._writer.write(canvas), self.names)

    def book(self, started_s: float, dropped: int) -> None:
        """Count one picture."""
        took_s = self.clock() - started_s
        old = self.usage
        slowest_s = max(old.slowest_s, took_s)
        self.usage = Usage(old.pictures + 1, old.busy_s + took_s, took_s, slowest_s, old.dropped + dropped)

    def forget(self) -> None:
        """Begin to count anew."""
        self.usage = Usage()


class Loaded:
    """What a detector, a classifier and a segmenter have in common."""

    def __init__(self, network: Network, decoder: Shaped) -> None:
        network.names = network.session.choose(decoder.outputs)
        self.network = network
        self.shape_problem: Callable[[Sequence[Array]], str] = decoder.problem
        self.card: Card = network.file.card
        self.input_size: tuple[int, int] = (self.card.input.width, self.card.input.height)
        self.classes: tuple[str, ...] = self.card.reported

    @property
    def usage(self) -> Usage:
        """What it did so far; self-test and warm-up do not count."""
        return self.network.usage


class Detector(Loaded):
    """Finds objects of `classes` in canvases of `input_size` (width, height)."""

    def __init__(self, network: Network, decoder: Decoder) -> None:
        super().__init__(network, decoder)
        self._decoder = decoder
        self._map = None if self.card.report is None else np.array(class_map(self.card), np.int64)
        self._needs_nms = not isinstance(self.card.head, Nms | Rtdetr)

    def detect(self, canvas: Canvas, confidence: float | None = None) -> Detections:
        """What is in a canvas, uint8 (height, width, 3) BGR. `confidence` stands in for the card's.

        Raises ValueError for a canvas of another shape or type, Fatal when the inference itself fails.
        """
        started_s = self.network.clock()
        outputs = self.network.outputs(canvas)
        least = self.card.thresholds.confidence if confidence is None else confidence
        found = self.once_each(self.candidates(outputs, least))
        self.network.book(started_s, found.dropped)
        return found

    def candidates(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """What the outputs say from `confidence` on, in reported classes; neither cleaned nor one box an object."""
        found = self._decoder.decode(outputs, confidence)
        if self._map is None:
            return found
        classes = self._map[found.classes]
        wanted = np.flatnonzero(classes >= 0)
        return Candidates(found.boxes[wanted], found.scores[wanted], classes[wanted], found.dropped)

    def once_each(self, found: Candidates) -> Detections:
        """The candidates cleaned, and each object once."""
        boxes, scores, classes, dropped = clean(found, self.input_size)
        limits = self.card.thresholds
        keep = nms(boxes, classes, limits.iou) if self._needs_nms else np.arange(len(boxes))
        keep = keep[: limits.max_detections]
        return Detections(boxes[keep], scores[keep], classes[keep], dropped)


class Classifier(Loaded):
    """Says which of `classes` a canvas shows."""

    def __init__(self, network: Network, decoder: ClassifyDecoder) -> None:
        super().__init__(network, decoder)
        self._decoder = decoder

    def classify(self, canvas: Canvas) -> Classification:
        """What the canvas shows. Raises as Detector.detect."""
        started_s = self.network.clock()
        found = self._decoder.decode(self.network.outputs(canvas), self.card.thresholds.confidence)
        self.network.book(started_s, int(not np.isfinite(found.scores).all()))
        return found


class Segmenter(Loaded):
    """Says how much of a canvas shows each of `classes`."""

    def __init__(self, network: Network, decoder: SegmentDecoder) -> None:
        super().__init__(network, decoder)
        self._decoder = decoder

    def segment(self, canvas: Canvas, frame: tuple[int, int, int, int] | None = None) -> Segmentation:
        """The shares within `frame`, x0 y0 x1 y1 in canvas pixels: the canvas without its padding.

        None: the whole canvas. Raises as Detector.detect.
        """
        started_s = self.network.clock()
        found = self._decoder.decode(self.network.outputs(canvas), self.card.thresholds.confidence, frame)
        self.network.book(started_s, int(found.unknown > 0))
        return found


def _writer(card: Card) -> "PictureWriter":
    try:
        from models.pictures import PictureWriter
    except ImportError as error:
        raise ConfigError([f"vision needs OpenCV ({error}); install it: pip install 'weinao[vision]'"]) from None
    return PictureWriter(card.input)
