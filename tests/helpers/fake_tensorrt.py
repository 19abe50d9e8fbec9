"""A fake TensorRT that records how it is called."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import onnx

from rtseg.backends.tensorrt.library import TensorRTLibrary


class FakeTensorRT:
    """A module like ``tensorrt``: records how it is called, and builds a plan that contains it.

    Args:
        driver: whether there is a driver.
        cache: the only timing cache that it accepts, besides an empty one.
        refuses: error of the parser.
        fails: error of the build.
    """

    __version__ = "11.4.0.1"

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    class IProgressMonitor:
        pass

    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="TF32")

    def __init__(
        self, *, driver: bool = True, cache: bytes = b"known", refuses: str | None = None, fails: str | None = None
    ) -> None:
        self.driver, self.cache, self.refuses, self.fails = driver, cache, refuses, fails
        self.flags = 0
        self.cleared: list[str] = []
        self.profiles: list[dict[str, tuple[Any, ...]]] = []
        self.begun_with: bytes | None = None
        self.num_compute_capabilities = 0
        self.capabilities: dict[int, int] = {}
        self.graph = onnx.ModelProto()
        self.work: Callable[[Any], None] = lambda monitor: monitor.phase_start("Building engine", None, 3)

    def trt(self) -> TensorRTLibrary:
        return TensorRTLibrary(self, "tensorrt", self.__version__)

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - the name in TensorRT
        if not self.driver:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.logger = logger
        return self

    def create_network(self, flags: int) -> Any:
        self.flags = flags
        return self

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        return self

    def parse(self, data: bytes) -> bool:
        self.graph = onnx.load_from_string(data)
        return self.refuses is None

    num_errors = 1

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: self.refuses, node_operator=lambda: "Det", node_name=lambda: "det")

    num_inputs = 1

    def get_input(self, index: int) -> Any:
        value = self.graph.graph.input[index]
        return SimpleNamespace(name=value.name, shape=[dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim])

    def create_builder_config(self) -> Any:
        return self

    def clear_flag(self, flag: str) -> None:
        self.cleared.append(flag)

    def set_compute_capability(self, capability: int, number: int) -> bool:
        if number >= self.num_compute_capabilities:
            return False
        self.capabilities[number] = capability
        return True

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, tuple[Any, ...]] = {}
        return SimpleNamespace(set_shape=lambda name, *given: shapes.__setitem__(name, given), shapes=shapes)

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(data=data, serialize=lambda: data + b" and more")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        taken = cache.data in (b"", self.cache)
        if taken:
            self.begun_with = cache.data
        return taken

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        self.work(self.progress_monitor)  # type: ignore[attr-defined]
        if self.fails is not None:
            self.logger.log(self.ILogger.ERROR, self.fails)
            return None
        return b"plan"
