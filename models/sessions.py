"""onnxruntime as a gateway needs it: several cameras, few cores, little memory; and its errors in words.

The options, each measured (models/README.md): one thread an inference and no spinning, because the frames of several
cameras are the parallelism; without that, four cameras at 5 fps wait 309 ms instead of 70 and burn the cores waiting.
One arena for all models that grows by what is asked, and no memory patterns: three models of 640x384 then take 25 MB
instead of 65, and not a millisecond more. The model comes as bytes, those that were hashed.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from contract.errors import ConfigError, Fatal
from models.cards import CardFile
from models.onnx_file import NotOnnx, external_tensor
from models.types import Array

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]
_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_PACKAGES: dict[Provider, str] = {
    "cpu": "onnxruntime",
    "openvino": "onnxruntime-openvino",
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu, and TensorRT itself",
}
_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class Port(NamedTuple):
    """An input or output of the graph; shape None where a length is free."""

    name: str
    type: str
    shape: list[int | None]

    def __str__(self) -> str:
        lengths = ", ".join("?" if length is None else str(length) for length in self.shape)
        return f"{self.name} {self.type.removeprefix('tensor')[1:-1]} ({lengths})"


def available() -> list[Provider]:
    """The execution providers of the onnxruntime that is installed. Raises ConfigError when there is none."""
    ready = _onnxruntime().get_available_providers()
    return [provider for provider, name in _NAMES.items() if name in ready]


class Session:
    """One model, loaded. Raises ConfigError, naming the card's line, when file, card and machine do not fit."""

    def __init__(self, file: CardFile, content: bytes, provider: Provider) -> None:
        self._file = file
        _refuse_external(file, content)
        runtime = _onnxruntime()
        self._errors = _error_types()
        try:
            self._session = runtime.InferenceSession(content, _options(runtime), providers=_providers(provider))
        except self._errors as error:
            raise ConfigError([f"{file.model_path}: onnxruntime refuses it: {_first_line(error)}"]) from None
        active = self._session.get_providers()
        if _NAMES[provider] not in active:
            text = f"{provider} is installed but did not start: its libraries or its device are missing"
            raise ConfigError([f"{file.model_path}: {text}; it would run on {', '.join(active)}"])
        self._session.disable_fallback()
        self.inputs = [_port(port) for port in self._session.get_inputs()]
        self.outputs = [_port(port) for port in self._session.get_outputs()]
        self._also = self._check_inputs()

    def choose(self, names: Sequence[str | None]) -> list[str]:
        """The names of the wanted outputs, None being the first. Raises ConfigError when one is not there."""
        known = [port.name for port in self.outputs]
        for name in names:
            if name is not None and name not in known:
                raise self._file.refuse(["head"], f"the model has no output {name!r}; it has {_listed(self.outputs)}")
        return [name or known[0] for name in names]

    def run(self, tensor: Array, names: Sequence[str]) -> list[Array]:
        """The wanted outputs for the picture's tensor. Raises Fatal: what ran before and fails now needs a restart."""
        try:
            found: list[Array] = self._session.run(names, {self._file.card.input.name: tensor, **self._also})
        except self._errors as error:
            raise Fatal(f"model {self._file.name}: inference failed: {_first_line(error)}") from error
        return found

    def _check_inputs(self) -> Mapping[str, Array]:
        """The further inputs, ready. Raises ConfigError when the graph's inputs are not the card's."""
        spec = self._file.card.input
        ports = {port.name: port for port in self.inputs}
        if spec.name not in ports:
            raise self._file.refuse(["input", "name"], f"the model has no input {spec.name!r}; {_listed(self.inputs)}")
        picture = ports.pop(spec.name)
        if _TYPES.get(picture.type) != np.dtype(spec.dtype):
            raise self._file.refuse(["input", "dtype"], f"found {spec.dtype}, but the model takes {picture}")
        sides = [spec.height, spec.width]
        shape = [1, 3, *sides] if spec.layout == "NCHW" else [1, *sides, 3]
        if not _fits(shape, picture.shape):
            wanted = ", ".join(str(length) for length in shape)
            raise self._file.refuse(["input"], f"{spec.layout} ({wanted}), but the model takes {picture}")
        also = {name: self._constant(ports.pop(name, None), name, numbers) for name, numbers in spec.also.items()}
        if ports:
            text = f"the model also takes {_listed(list(ports.values()))}; give its numbers under input.also"
            raise self._file.refuse(["input"], text)
        return also

    def _constant(self, port: Port | None, name: str, numbers: list[float]) -> Array:
        steps = ["input", "also", name]
        if port is None or port.type not in _TYPES:
            raise self._file.refuse(steps, f"the model has no such input of numbers; it has {_listed(self.inputs)}")
        for shape in ([1, len(numbers)], [len(numbers)]):
            if _fits(shape, port.shape):
                return np.array(numbers, _TYPES[port.type]).reshape(shape)
        raise self._file.refuse(steps, f"found {len(numbers)} numbers, but the model takes {port}")


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError([f"vision needs onnxruntime ({error}); install it: pip install 'weinao[vision]'"]) from None
    return onnxruntime


def _error_types() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its exceptions share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile",
        "NotImplemented", "RuntimeException",
    )  # fmt: skip
    found = [getattr(state, name, None) for name in names]
    return (*(kind for kind in found if kind is not None), ValueError, RuntimeError)


@cache
def _shared_arena() -> bool:
    """One arena for all models of the process, growing by what is asked, instead of by doubling for each model."""
    runtime = _onnxruntime()
    where = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    try:
        runtime.create_and_register_allocator(where, runtime.OrtArenaCfg({"arena_extend_strategy": 1}))
    except _error_types() as error:
        log.warning("onnxruntime makes no shared arena, so each model takes more memory: %s", error)
        return False
    return True


def _options(runtime: Any) -> "onnxruntime.SessionOptions":
    options = runtime.SessionOptions()
    if _shared_arena():
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings about a model's graph help nobody in the street
    return options


def _providers(provider: Provider) -> list[str | tuple[str, dict[str, str]]]:
    if provider not in get_args(Provider):
        raise ConfigError([f"provider {provider!r}: unknown; known: {', '.join(get_args(Provider))}"])
    ready = available()
    if provider not in ready:
        text = f"provider {provider!r} is not in the onnxruntime installed here; available: {', '.join(ready)}"
        raise ConfigError([f"{text}. It comes with {_PACKAGES[provider]}"])
    if provider == "tensorrt" and "cuda" in ready:
        return [_NAMES["tensorrt"], _NAMES["cuda"], _NAMES["cpu"]]
    if provider == "openvino":
        return [(_NAMES["openvino"], {"num_of_threads": "1"}), _NAMES["cpu"]]  # it takes every core otherwise
    return list(dict.fromkeys([_NAMES[provider], _NAMES["cpu"]]))


def _refuse_external(file: CardFile, content: bytes) -> None:
    try:
        tensor = external_tensor(content)
    except NotOnnx as error:
        raise ConfigError([f"{file.model_path}: not an ONNX model: {error}"]) from None
    if tensor is not None:
        text = (
            f"tensor {tensor!r} keeps its numbers in another file; export the model as one file (external_data=False)"
        )
        raise ConfigError([f"{file.model_path}: {text}"])


def _port(port: Any) -> Port:
    return Port(port.name, port.type, [length if isinstance(length, int) else None for length in port.shape or []])


def _fits(shape: Sequence[int], declared: Sequence[int | None]) -> bool:
    return len(shape) == len(declared) and all(b in {None, a} for a, b in zip(shape, declared, strict=True))


def _listed(ports: Sequence[Port]) -> str:
    return "; ".join(str(port) for port in ports) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
