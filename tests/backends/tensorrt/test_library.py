from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from rtseg.backends.tensorrt.library import captured_errors, get_logger, import_tensorrt, strip_source_location
from rtseg.errors import BackendUnavailable, OptionError


def install(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Install fake modules in these versions, or none."""
    for name in ("tensorrt", "tensorrt_rtx"):
        version = versions.get(name)
        module: ModuleType | None = ModuleType(name) if version is not None else None
        if module is not None:
            module.__version__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)


def drive(monkeypatch: pytest.MonkeyPatch, driver: str | None) -> None:
    monkeypatch.setattr("rtseg.backends.tensorrt.library.driver_version", lambda: driver)


class TestImport:
    def test_auto_takes_tensorrt_where_a_driver_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, tensorrt="11.4.0.1", tensorrt_rtx="1.7.1.116")
        drive(monkeypatch, "580.65.06")
        assert import_tensorrt().title == "TensorRT 11.4.0.1"

    def test_auto_takes_rtx_without_a_driver_for_tensorrt_could_build_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, tensorrt="11.4.0.1", tensorrt_rtx="1.7.1.116")
        drive(monkeypatch, None)
        trt = import_tensorrt("auto")
        assert (trt.name, trt.title) == ("rtx", "TensorRT-RTX 1.7.1.116")

    @pytest.mark.parametrize("tensorrt", [None, "10.11.0.33"])
    def test_auto_takes_rtx_where_tensorrt_is_missing_or_too_old(
        self, monkeypatch: pytest.MonkeyPatch, tensorrt: str | None
    ) -> None:
        install(monkeypatch, tensorrt=tensorrt, tensorrt_rtx="1.7.1.116")
        drive(monkeypatch, "580.65.06")
        assert import_tensorrt().name == "rtx"

    @pytest.mark.parametrize(("driver", "named"), [("580.65.06", ["tensorrt", "rtx"]), (None, ["rtx"])])
    def test_where_there_is_none_the_extras_that_help_here_are_named(
        self, monkeypatch: pytest.MonkeyPatch, driver: str | None, named: list[str]
    ) -> None:
        install(monkeypatch)
        drive(monkeypatch, driver)
        with pytest.raises(BackendUnavailable) as caught:
            import_tensorrt()
        for extra in ("tensorrt", "rtx"):
            assert (f"pip install 'rtseg[{extra}]'" in str(caught.value)) == (extra in named)

    @pytest.mark.parametrize(("version", "taken"), [("10.11.9", False), ("9.30.0", False), ("10.12.0.36", True)])
    def test_tensorrt_before_10_12_is_refused_with_its_version(
        self, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
    ) -> None:
        install(monkeypatch, tensorrt=version)
        if taken:
            assert import_tensorrt("tensorrt").version == version
            return
        with pytest.raises(BackendUnavailable, match=f"TensorRT {version} is too old"):
            import_tensorrt("tensorrt")

    def test_a_library_that_the_package_cannot_load_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(name: str) -> ModuleType:
            raise OSError("libnvinfer.so.10: cannot open shared object file")

        monkeypatch.setattr("rtseg.backends.tensorrt.library.import_module", broken)
        with pytest.raises(BackendUnavailable, match=r"TensorRT cannot be loaded \(libnvinfer"):
            import_tensorrt("tensorrt")

    def test_another_runtime_is_refused(self) -> None:
        with pytest.raises(OptionError, match="--runtime must be one of auto, tensorrt, rtx, got 'trt'"):
            import_tensorrt("trt")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] "
            "Cannot compile operation 'm' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
            "/_src/optimizer/myelin/codeGenerator.cpp:2012)",
            "Cannot compile operation 'm' for Turing (SM75): FP32 GEMM is not supported",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (In generateForCurrent at "
            "/_src/runtime/core/cudaDeviceProfile.cpp:221 (cudaError 35: CUDA driver version is insufficient))",
            "cudaError 35: CUDA driver version is insufficient",
        ),
        (
            "ITensor::getDimensions: Error Code 4: Shape Error (reshape changes volume. Reshaping [1,4,4] to [3,3]. In "
            "operator() at /_src/optimizer/common/shape/shapeContext.cpp:4633)",
            "reshape changes volume. Reshaping [1,4,4] to [3,3]",
        ),
        (
            "Assertion failed: (nChannel == -1 || C * ngroup == nChannel): The kernel shape misaligns.\n",
            "The kernel shape misaligns",
        ),
        ("Out of memory", "Out of memory"),
    ],
)
def test_a_complaint_is_shown_without_the_source_files_of_the_runtime(text: str, reason: str) -> None:
    assert strip_source_location(text) == reason


def test_complaints_are_those_of_within_and_neither_of_before_nor_warnings() -> None:
    module: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    trt = import_tensorrt("rtx")
    logger, severity = get_logger(module), module.ILogger
    assert get_logger(module) is logger
    with captured_errors(trt) as first:
        logger.log(severity.ERROR, "one")
        logger.log(severity.WARNING, "two")
    with captured_errors(trt) as second:
        logger.log(severity.INTERNAL_ERROR, "three")
    assert (first, second) == (["one"], ["three"])


def test_importing_the_library_module_imports_no_runtime() -> None:
    program = (
        "import sys, rtseg.backends.tensorrt.library, rtseg.backends.tensorrt.engine_file; "
        "print([m for m in sys.modules if m.startswith('tensorrt') or m == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
