"""``benchmarks/gpu.sh`` without a GPU: its plan, and that every step leaves its result whatever happens to another."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rtseg.cli import app

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.sh"
LIMIT_S = 720


def bash(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, env={**environment}
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], str]:
    """The steps of a dry run, and the commands that it printed."""
    wheels, out = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("out")
    (wheels / "large.whl.part-00").write_bytes(b"a")
    (wheels / "large.whl.part-01").write_bytes(b"b")
    done = bash(f"{SCRIPT} {wheels} {out}", GPU_DRY_RUN="1", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "steps.json").read_text()), (out / "log.txt").read_text()


def test_the_steps_come_in_order_and_their_limits_fit_into_twelve_minutes(
    plan: tuple[list[dict[str, object]], str],
) -> None:
    steps, _ = plan
    assert [step["step"] for step in steps] == [
        "facts", "wheels", "pycuda", "facts", "tests", "engines", "backends_large", "overlap", "clip", "pipeline",
        "stream", "backends_small",
    ]  # fmt: skip
    assert {step["code"] for step in steps} == {0}
    limits = re.findall(r"^    step \w+ (\d+)", SCRIPT.read_text(), re.MULTILINE)
    assert sum(map(int, limits)) <= LIMIT_S


def test_every_rtseg_command_of_the_plan_has_its_options(plan: tuple[list[dict[str, object]], str]) -> None:
    _, log = plan
    commands = [
        line.split("-m rtseg ")[1].split() for line in log.splitlines() if line.startswith("+ python3 -m rtseg")
    ]
    group: Any = get_command(app)
    context = group.make_context("rtseg", [], resilient_parsing=True)
    assert {words[0] for words in commands} == {"build-engine", "stream"}
    for name, *words in commands:
        command = group.resolve_command(context, [name])[1]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("script", ["backends", "pipeline", "gpu_overlap"])
def test_every_benchmark_of_the_plan_has_its_options(
    script: str,
    plan: tuple[list[dict[str, object]], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, log = plan
    used = {
        word for line in log.splitlines() if f"/{script}.py " in line for word in line.split() if word.startswith("--")
    }
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    # By its path: a folder of tests is called like one of the scripts.
    found = importlib.util.spec_from_file_location(f"benchmark_{script}", BENCHMARKS / f"{script}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    with pytest.raises(SystemExit):
        module.main()
    text = capsys.readouterr().out
    assert used
    assert {word for word in used if word not in text} == set()


def test_a_step_that_fails_or_hangs_stops_no_other_and_leaves_its_code(tmp_path: Path) -> None:
    steps = (
        "do_bad() { echo told; false; echo never; }; do_slow() { sleep 60; }; do_good() { run echo done; }; "
        "export -f do_bad do_slow do_good; OUT=$1 STEPS=() FAILED=0; "
        'step bad 9; step slow 5; step good 9; TOTAL_S=$((SECONDS + 2)); step late 9; exit "$FAILED"'
    )
    done = bash(f"source {SCRIPT}; set -- {tmp_path}; {steps}", PATH="/usr/bin:/bin")
    assert done.returncode == 1, done.stderr
    codes = {step["step"]: step["code"] for step in json.loads((tmp_path / "steps.json").read_text())}
    assert codes == {"bad": 1, "slow": 124, "good": 0, "late": "no time left"}
    log = (tmp_path / "log.txt").read_text()
    assert "told" in log
    assert "never" not in log
    assert "+ echo done\ndone\n" in log


def test_parts_of_a_wheel_are_joined_and_a_damaged_one_is_found(tmp_path: Path) -> None:
    wheels, work = tmp_path / "wheels", tmp_path / "work"
    (work / "wheels").mkdir(parents=True)
    wheels.mkdir()
    for part, content in enumerate((b"first ", b"second")):
        (wheels / f"large.whl.part-0{part}").write_bytes(content)
    (wheels / "SHA256SUMS").write_text("d21d0f0f0f0a6ea3f1fd9f2c7a9a6b5ba2b0ef2d3b0b1f2a8d7e5ff3f5e6a7b8  large.whl\n")
    done = bash(f"source {SCRIPT}; WHEELS={wheels} WORK={work}; set -e; do_wheels", PATH="/usr/bin:/bin", LC_ALL="C")
    assert (work / "wheels" / "large.whl").read_bytes() == b"first second"
    assert done.returncode != 0
    assert "large.whl: FAILED" in done.stdout
    assert "pip install" not in done.stdout


def test_the_share_of_the_slowest_stage_is_that_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    stages = {"copy": 0.25, "upload": 0.5, "download": 0.125, "run": 0.75}
    found = importlib.import_module("gpu_overlap").overlap(stages, 2.0, 1.0)
    assert (found["slowest"], found["share_of_slowest"]) == ("run", 0.75)
