"""Who may import whom, read from the sources, and what a process has loaded, asked of a fresh one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rtseg
from rtseg.cli.command_table import COMMANDS

ROOT = Path(rtseg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LIGHT = (
    "rtseg.app.option_fields",
    "rtseg.app.option_values",
    "rtseg.app.options",
    "rtseg.batch.options",
    "rtseg.bench.options",
    "rtseg.deploy.options",
    "rtseg.importing.options",
    "rtseg.errors",
    "rtseg.option",
    "rtseg.system.read_file",
    "rtseg.training.options",
    "rtseg.version",
    "rtseg.web.options",
    "rtseg.weights",
)
"""Modules that commands may import before they are run."""
HEAVY = ("torch", "torchvision", "openvino", "onnxruntime", "onnx", "cv2", "av", "numpy")
TIMEOUT_S = 120


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def loaded_after(code: str) -> set[str]:
    """Which of ``HEAVY`` a fresh process has loaded after ``code``."""
    done = run(f"import sys\n{code}\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].removeprefix("loaded:").split())


def imports(path: Path, *, at_once: bool = False) -> Iterator[str]:
    """The modules that a file names in imports, with those inside functions, or (``at_once``) without."""
    tree = ast.parse(path.read_text())
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not (at_once and isinstance(node, ast.FunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))


def users(package: str) -> set[str]:
    """The files of rtseg that import ``package``, as paths in it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


class TestLoading:
    def test_import_rtseg_loads_no_runtime_and_no_library(self) -> None:
        assert loaded_after("import rtseg; rtseg.__version__") == set()

    def test_looking_at_the_public_names_loads_nothing(self) -> None:
        assert loaded_after("import rtseg; dir(rtseg)") == set()

    @pytest.mark.parametrize(
        "command",
        ["", "--help", "--version", "data --help", "data check --help", *(f"{name} --help" for name in COMMANDS)],
    )
    def test_help_loads_no_runtime_and_no_library(self, command: str) -> None:
        assert loaded_after(f"from rtseg.cli import main; assert main({command.split()!r}) == 0") == set()

    def test_a_model_file_is_run_by_openvino_without_torch(self, icnet_file: Path) -> None:
        loaded = loaded_after(
            "import numpy as np; from rtseg import open_backend\n"
            f"backend = open_backend('openvino', {str(icnet_file)!r}, size=(96, 64))\n"
            "backend.infer(np.zeros((1, 96, 64, 3), np.uint8)); backend.close()"
        )
        assert "openvino" in loaded
        assert not {"torch", "torchvision", "onnxruntime"} & loaded

    @pytest.mark.parametrize("command", ["eval --model {0}", "verify {0} {0} --precision fp32"])
    def test_labels_are_judged_without_torch(self, icnet_file: Path, command: str) -> None:
        words = [*command.format(icnet_file).split(), "--data", "synthetic:street,frames=2"]
        loaded = loaded_after(f"from rtseg.cli import main; assert main({words!r}) == 0")
        assert "openvino" in loaded
        assert not {"torch", "torchvision"} & loaded


class TestPublicApi:
    @pytest.mark.parametrize("name", rtseg.__all__)
    def test_every_public_name_is_there(self, name: str) -> None:
        assert getattr(rtseg, name) is not None
        assert name in dir(rtseg)

    def test_another_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="module 'rtseg' has no attribute 'Nothing'"):
            rtseg.Nothing  # noqa: B018


class TestWhoKnowsWhom:
    @pytest.mark.parametrize("package", ["torch", "torchvision"])
    def test_torch_is_imported_by_networks_data_training_export_and_its_backend_alone(self, package: str) -> None:
        allowed = (
            "models/",
            "datasets/",
            "training/",
            "deploy/export.py",
            "deploy/prior_correction.py",
            "backends/torch.py",
        )
        allowed = (*allowed, "published/", "image_io/decoders.py")  # what is asked for by name
        found = users(package)
        assert found
        assert {path for path in found if not path.startswith(allowed)} == set()

    @pytest.mark.parametrize(
        ("package", "owner"),
        [("openvino", "backends/openvino.py"), ("onnxruntime", "backends/onnxruntime.py"), ("cv2", "system/opencv.py")],
    )
    def test_a_heavy_package_is_imported_by_the_one_file_that_owns_it(self, package: str, owner: str) -> None:
        found = users(package)
        assert owner in found
        # The drawn street only draws: no setting of OpenCV concerns it. The quantizer comes with ONNX Runtime.
        # A foreign graph has other inputs and outputs than a model file, so no backend can run it.
        others = (
            ("synthetic/street/", "model_file/quantize.py", "importing/runtime.py")
            if package != "openvino"
            else ("importing/tflite.py",)
        )
        assert {path for path in found if not path.startswith(others)} == {owner}

    def test_video_is_read_and_written_by_sources_and_sinks_alone(self) -> None:
        found = users("av")
        assert found
        assert all(path.startswith(("sources/", "sinks/")) for path in found)

    def test_only_the_pipeline_the_terminal_and_image_reading_start_threads(self) -> None:
        starters = {path.relative_to(ROOT).as_posix() for path in FILES if "threading.Thread" in set(imports(path))}
        assert "pipeline/runner.py" in starters
        # terminal.py: a signal handler may not take locks, so a thread asks the run to end.
        # source_run.py: each source of the page has a run, and a thread that calls it.
        # sinks: images wait for the receiver of a stream, and for the disk of a recording.
        # many_streams.py and shared.py: each of many sources has a run, and all share one backend.
        # prometheus.py and outbox.py: those who ask for figures, and receivers of events, may be slow.
        # server_probe.py: looking up the name of a host may take long.
        # pool.py and worker.py: one thread waits for each process, and in each process one waits for its end.
        # ray_process.py: one waits for the end of the run, and one looks whether the cluster is there.
        # cameras_file.py: looks at a file every second.
        # threads.py: requests of the page that may hang, so that the server ends without them.
        others = starters - {
            "app/many_streams.py",
            "app/prometheus.py",
            "app/terminal.py",
            "backends/shared.py",
            "batch/pool.py",
            "batch/ray_process.py",
            "batch/worker.py",
            "events/outbox.py",
            "pipeline/runner.py",
            "system/server_probe.py",
            "web/source_run.py",
            "web/cameras_file.py",
            "web/threads.py",
        }
        assert all(path.startswith(("sources/", "sinks/", "image_io/")) for path in others)

    def test_commands_load_what_they_need_when_they_are_run(self) -> None:
        for path in (ROOT / "cli").glob("*.py"):
            for name in imports(path, at_once=True):
                assert name.split(".")[0] not in HEAVY
                assert not name.startswith("rtseg.") or name.startswith(("rtseg.cli", *LIGHT)), f"{path.name}: {name}"


class TestMissingPackages:
    @pytest.mark.parametrize(
        ("command", "what"),
        [
            ("train --data synthetic:street --output run", "training"),
            ("export best.safetensors --output a.onnx", "export"),
        ],
    )
    def test_a_command_without_torch_names_the_extra_that_brings_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, what: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = run(
            "import sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv.pop())\n"
            "from rtseg.cli import main; sys.exit(main(sys.argv[1:]))",
            *command.split(),
            str(ROOT.parent),
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"rtseg: {what} needs the package 'torch': pip install 'rtseg[train]'\n"
        assert list(tmp_path.iterdir()) == []

    def test_where_opencv_cannot_be_loaded_both_ways_out_are_told(self) -> None:
        done = run(
            "import sys; sys.modules['cv2'] = None\n"
            "from rtseg.cli import main; sys.exit(main(['stream', 'demo', '--output', 'null', '--max-frames', '1']))"
        )
        assert done.returncode == 2
        assert done.stderr.startswith("rtseg: OpenCV cannot be loaded")
        assert "libgl1" in done.stderr
        assert "opencv-python-headless" in done.stderr
        assert done.stderr.count("\n") == 1
