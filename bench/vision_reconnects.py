"""A camera that hangs up after a few frames, for ever: what is left of each connection? A process of its own.

    python -m bench.vision_reconnects URL COUNT EACH

After every EACH connections it prints {"connections", "rss_mb"}: of this process, which keeps the capture, and of the
capture process together. The waits between attempts, which would make this last for hours, are a hundredth of a second.
"""

import json
import logging
import select
import sys

import psutil

from drivers.base_camera import CameraBusSpec
from drivers.camera_capture import Pace, ProcessCapture

CANVAS = (512, 288)


def main(url: str, count: int, each: int) -> None:
    """Connect `count` times."""
    logging.disable(logging.CRITICAL)  # each end of a connection is a warning
    camera = {"name": "leaver", "detector": "none", "fps": 25}
    spec = CameraBusSpec.model_validate({"name": "bus", "driver": "camera", "source": url, "devices": [camera]})
    capture = ProcessCapture(spec, CANVAS, pace=Pace(first_wait_s=0.01, most_wait_s=0.01))
    told = 0
    while told < count:
        select.select([capture.fileno()], [], [], 0.1)
        capture.look()
        if capture.status().connections >= told + each:
            told += each
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            resident_mb = sum(one.memory_info().rss for one in family) / 1e6
            print(json.dumps({"connections": told, "rss_mb": resident_mb}), flush=True)
    capture.close()
    capture.wait_closed(5)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
