"""What a camera costs when nothing is made of it: each frame decoded by OpenCV, one inference, the answer thrown away.

    python -m bench.vision_floor SOURCE MODEL.onnx       reads a stream; SIGUSR1 asks for the frames so far
    python -m bench.vision_floor --flat-out FILE MODEL.onnx   prints the CPU milliseconds of each, then ends

The input of the inference is the same canvas of noise each time: no scaling, no copy, no boxes. onnxruntime has the
options that suit several cameras on few cores (one thread, no spinning), or it would be slower than ours.
"""

import json
import os
import signal
import sys
import time
from typing import Any

# Read when OpenCV opens a stream: as the gateway's captures do it.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp|analyzeduration;200000"

import cv2
import numpy as np
import onnxruntime


def session_of(model: str) -> tuple[Any, dict[str, Any]]:
    """A bare session, and what it is always given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    numbers = np.random.default_rng(1).integers(0, 255, port.shape)
    kind = np.uint8 if port.type == "tensor(uint8)" else np.float32
    return session, {port.name: numbers.astype(kind)}


def stream(source: str, model: str) -> None:
    """Read until killed."""
    session, given = session_of(model)
    settings = [cv2.CAP_PROP_N_THREADS, 1, cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, settings)
    count = 0
    signal.signal(signal.SIGUSR1, lambda *_: print(json.dumps({"frames": count}), flush=True))
    print("ready", flush=True)
    picture = None
    while True:
        ok, picture = capture.read(picture)
        if not ok:
            return
        session.run(None, given)
        count += 1


def flat_out(file: str, model: str) -> None:
    """Both parts by themselves, as fast as they go: CPU ms of a frame's decoding, and of an inference."""
    session, given = session_of(model)
    capture = cv2.VideoCapture(file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count, picture, began_s = 0, None, time.process_time()
    while count < 200:
        ok, picture = capture.read(picture)
        if not ok:
            break
        count += 1
    decoded_s, began_s = time.process_time() - began_s, time.process_time()
    for _ in range(100):
        session.run(None, given)
    ms = {"decode_ms": decoded_s / max(1, count) * 1e3, "infer_ms": (time.process_time() - began_s) * 10}
    print(json.dumps(ms), flush=True)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    if sys.argv[1] == "--flat-out":
        flat_out(*sys.argv[2:])
    else:
        stream(*sys.argv[1:])
