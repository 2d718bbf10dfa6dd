"""Cameras: RTSP, MJPEG over HTTP, V4L2 and files, as looks for the gateway's vision.

A camera's readings are made by edge/vision, which counts what the looks show; this driver offers `capture` in place of
a bus that reads. docs/drivers-camera.md is the user's page.
"""

import importlib.util
from collections.abc import Sequence

from contract.errors import ConfigError
from drivers.base import Bus, Driver, Scan
from drivers.base_camera import CameraBusSpec, Capture
from drivers.camera_capture import ProcessCapture

if importlib.util.find_spec("cv2") is None:
    # Found missing now, not by the capture process; importing it here would cost the gateway 40 MB for nothing.
    raise ModuleNotFoundError("No module named 'cv2'", name="cv2")


def open_capture(spec: CameraBusSpec, canvas: tuple[int, int]) -> Capture:
    """Start taking looks on canvases of (width, height). Raises OSError when this machine has no room for it."""
    return ProcessCapture(spec, canvas)


def _connect(spec: CameraBusSpec, scans: Sequence[Scan]) -> Bus:
    del scans
    raise ConfigError([f"bus {spec.name!r}: a camera gives pictures, not readings: the gateway's vision reads it"])


DRIVER = Driver(
    name="camera", bus_spec=CameraBusSpec, connect=_connect, listening=lambda _spec: True, capture=open_capture
)
