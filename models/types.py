"""The arrays that go from module to module of models/."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Canvas = np.ndarray[Any, np.dtype[np.uint8]]  # height x width x 3, BGR
