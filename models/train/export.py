"""From a checkpoint to the two files that a gateway reads, proved equal to what was trained."""

# mypy: disable-error-code="import-not-found"
import io
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from models.seal import seal
from models.train.card import INPUT, OUTPUT, THRESHOLD, as_text, card, table
from models.train.fit import answers_of
from models.train.judge import Canvases, evaluate
from models.train.labels import CANVAS, Floats
from models.train.net import Deployed, StreetNet, fold_scale
from models.train.scenes import SCENES_A_SHARD, drawn_shards, on_canvas, open_shard

MAX_BYTES = 2_000_000
MAX_DIFFERENCE_PX = 0.1
MAX_DIFFERENCE_SCORE = 0.002


class NotEqual(Exception):
    """The exported file does not answer as the network does, or is too large: nothing was written."""


def to_onnx(net: StreetNet) -> bytes:
    """The ONNX file of a trained network: batch 1, weights inside, normalisation in the first layer."""
    copy = StreetNet()
    copy.load_state_dict(net.state_dict())
    fold_scale(copy)
    packed = io.BytesIO()
    example = torch.zeros((1, CANVAS[1], CANVAS[0], 3), dtype=torch.uint8)
    torch.onnx.export(
        Deployed(copy).eval(),
        (example,),
        packed,
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=17,
        dynamo=False,
    )
    return packed.getvalue()


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """The file as a gateway runs it: one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def milliseconds_of(session: onnxruntime.InferenceSession) -> float:
    """The median of 300 inferences."""
    picture = np.random.default_rng(1).integers(0, 255, (1, CANVAS[1], CANVAS[0], 3), np.uint8)
    spent = []
    for _ in range(320):
        begun = time.perf_counter()
        session.run(None, {INPUT: picture})
        spent.append(time.perf_counter() - begun)
    return float(np.median(spent[20:])) * 1000


def prove_equal(net: StreetNet, session: onnxruntime.InferenceSession, pictures: Canvases) -> None:
    """Raises NotEqual unless file and network agree on real pictures."""
    wanted = answers_of(net)(pictures)
    found = np.concatenate([session.run(None, {INPUT: picture[None]})[0] for picture in pictures])
    sure = wanted[:, 4:].max(1) > 0.1  # boxes where nothing is may lie anywhere
    apart = np.abs(wanted - found)
    pixels = float(apart[:, :4].max(1)[sure].max(initial=0))
    score = float(apart[:, 4:].max())
    if pixels > MAX_DIFFERENCE_PX or score > MAX_DIFFERENCE_SCORE:
        raise NotEqual(f"boxes differ by {pixels:.3f} px, scores by {score:.4f}")


def export(checkpoint: Path, scenes: Path, folder: Path, name: str) -> list[str]:
    """Writes NAME.onnx and NAME.yaml, sealed; returns the figures as Markdown. Raises NotEqual, ConfigError."""
    state = torch.load(checkpoint, weights_only=True)
    net = StreetNet().eval()
    net.load_state_dict(state["average"])
    content = to_onnx(net)
    if len(content) > MAX_BYTES:
        raise NotEqual(f"the file has {len(content):,} bytes, at most {MAX_BYTES:,}")
    session = session_of(content)
    shard = open_shard(scenes / "heldout", drawn_shards(scenes / "heldout")[0])
    prove_equal(net, session, np.stack([on_canvas(np.asarray(picture)) for picture in shard.pictures[:12]]))

    def answer(pictures: Canvases) -> Floats:
        return np.concatenate([session.run(None, {INPUT: picture[None]})[0] for picture in pictures])

    report = evaluate(answer, scenes / "heldout", THRESHOLD)
    learned_from = SCENES_A_SHARD * len(drawn_shards(scenes / "train"))
    text = as_text(card(report, int(state["step"]), learned_from, milliseconds_of(session)))
    (folder / f"{name}.onnx").write_bytes(content)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    seal(folder, name)
    return list(table(report))
