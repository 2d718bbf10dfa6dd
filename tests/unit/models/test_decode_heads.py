"""Every head reads its export as the export's documentation does, through a real onnxruntime, and outlives any."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import slow_heads as slow
from head_cases import CASES, CELLS, CONFIDENCE, HEIGHT, IOU, KINDS, SIZE, WIDTH, Case, loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_head_finds_what_the_slow_reference_finds(make: Callable[[], Case], tmp_path: Path) -> None:
    case = make()
    found = loaded(tmp_path, case.outputs, case.head).detect(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    expected = slow.wanted(case.rows(), SIZE, CONFIDENCE, IOU if case.suppress else None)
    assert len(expected) > 8
    assert found.classes.tolist() == [row[5] for row in expected]
    np.testing.assert_allclose(found.scores, [row[4] for row in expected], atol=1e-3)
    np.testing.assert_allclose(found.boxes, [row[:4] for row in expected], atol=0.01)
    assert found.boxes.dtype == np.float32
    assert found.scores.dtype == np.float32
    assert found.classes.dtype == np.int64
    # Nothing is dropped but boxes that lie beside the canvas.
    assert found.dropped == sum(row[4] >= CONFIDENCE and not slow.inside(row, SIZE) for row in case.rows())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, Detector]]:
    """Each case and its detector."""
    made = {}
    for make in CASES:
        case = make()
        made[make.__name__] = case, loaded(tmp_path_factory.mktemp(make.__name__), case.outputs, case.head)
    return made


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from([make.__name__ for make in CASES]))
def test_any_numbers_give_boxes_inside_the_canvas(
    data: st.DataObject, name: str, opened: dict[str, tuple[Case, Detector]]
) -> None:
    case, detector = opened[name]
    outputs = [case.outputs[port].copy() for port in detector.network.names]
    hostile = st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0, -1.0, 0.9, 5e4])
    for output in outputs:
        for place in data.draw(st.lists(st.integers(0, output.size - 1), max_size=8)):
            number = data.draw(hostile)
            if output.dtype.kind == "i":
                output.flat[place] = data.draw(st.integers(-(2**62), 2**62))
            else:
                with np.errstate(over="ignore"):
                    output.flat[place] = number
    found = detector.once_each(detector.candidates(outputs, CONFIDENCE))
    x0, y0, x1, y1 = found.boxes.T
    assert ((x0 >= 0) & (x0 < x1) & (x1 <= WIDTH) & (y0 >= 0) & (y0 < y1) & (y1 <= HEIGHT)).all()
    assert ((found.scores >= np.float32(CONFIDENCE)) & (found.scores <= 1)).all()
    assert ((found.classes >= 0) & (found.classes < KINDS)).all()


@pytest.mark.parametrize("name", [make.__name__ for make in CASES])
def test_a_model_that_answers_nan_alone_finds_nothing_and_says_how_much(
    name: str, opened: dict[str, tuple[Case, Detector]]
) -> None:
    case, detector = opened[name]
    outputs = [case.outputs[port].copy() for port in detector.network.names]
    for output in outputs:
        if output.dtype.kind == "f":
            output.fill(np.nan)
    found = detector.once_each(detector.candidates(outputs, CONFIDENCE))
    places = CELLS if name == "yolox" else max(length for output in outputs for length in output.shape)
    assert len(found.boxes) == 0
    assert found.dropped == (0 if name == "nms_tensorflow" else places)  # there the count itself is NaN: no rows
