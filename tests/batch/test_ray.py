"""Runs on a Ray cluster of this machine whose head dies. ``pip install 'rtseg[ray]'``."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.batch_options import options

from rtseg.batch.ray_engine import RayPool
from rtseg.batch.run import BatchRun
from rtseg.errors import BackendError, MissingExtra

PATHS = os.pathsep.join(path for path in sys.path if path)
WRITE = ("shares", "masks", "overlay")
GIVES_UP = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Cluster:
    """A cluster of two CPUs on this machine."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the names of sockets must be short
        self.port = random.randint(20_000, 30_000)
        self.address = f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.end()
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head"]
        command += ["--node-ip-address", "127.0.0.1", "--port", str(self.port), "--num-cpus", "2"]
        command += ["--include-dashboard", "false", "--temp-dir", str(self._folder)]
        variables = os.environ | GIVES_UP | {"RTSEG_TEST_CLUSTER": str(self._folder), "PYTHONPATH": PATHS}
        subprocess.run(command, env=variables, check=True, capture_output=True, timeout=300)

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RTSEG_TEST_CLUSTER") == str(self._folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, name: str) -> None:
        (victim,) = (process for process in self.processes() if process.name() == name)
        victim.kill()

    def end(self) -> None:
        """Kill all of it, also what would do its work to the end."""
        for _ in range(2):
            for process in self.processes():
                try:
                    process.kill()
                except psutil.Error:
                    continue

    def remove(self) -> None:
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="needs ray: pip install 'rtseg[ray]'")
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def results(folder: Path) -> dict[str, bytes]:
    paths = (path for path in (folder / "segments").rglob("*") if path.is_file() and path.name != "done.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def run_until_killed(command: list[str], cluster: Cluster, victim: str, output: Path, after: int) -> tuple[int, str]:
    """Start a run, and kill a process of the cluster when there are ``after`` segments; return how the run ended."""
    with subprocess.Popen(
        command, env=os.environ | GIVES_UP | {"PYTHONPATH": PATHS}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while process.poll() is None:
                if len([*output.rglob("done.json")]) >= after:
                    cluster.kill(victim)
                    break
                time.sleep(0.05)  # files of other processes tell nobody that they are there
            _, error = process.communicate(timeout=1000)
        finally:
            process.kill()
    return process.returncode, error


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [2, 6])
def test_a_run_whose_head_is_killed_ends_complete_when_it_is_run_again(
    kills: int, cluster: Cluster, clip: Path, model: Path, tmp_path: Path
) -> None:
    library, output, chance = tmp_path / "library", tmp_path / "out", random.Random(kills)
    library.mkdir()
    for number in range(6 * kills):
        shutil.copy(clip, library / f"{number}.mp4")
    with BatchRun(options(library, tmp_path / "reference", model, segment_s=1.0, write=WRITE)) as run:
        run.run()
    command = [sys.executable, "-m", "rtseg", "batch", str(library), "-o", str(output), "-m", str(model), "--quiet"]
    command += ["--precision", "fp32", "--segment", "1s", "--write", ",".join(WRITE), "--ray", cluster.address]
    done = lost = 0
    for number in range(kills):
        victim = ("gcs_server", "raylet")[number % 2]
        code, error = run_until_killed(command, cluster, victim, output, done + chance.randint(1, 6))
        if code == 0:  # actors work without a head for a while: long enough this time
            break
        lost += 1
        assert code == 2
        assert error.count("\n") == 1
        assert f"the connection to the Ray cluster --ray {cluster.address} is lost" in error
        cluster.start()  # ends what still works
        found = [path for path in output.rglob("done.json") if ".part-" not in str(path)]
        assert len(found) > done  # each run goes on
        done = len(found)
    assert lost >= 2
    code, error = run_until_killed(command, cluster, "none", output, 10**6)
    assert (code, error) == (0, "")
    assert results(output) == results(tmp_path / "reference")
    assert not [*output.rglob("*part*")]
    assert len([*output.glob("overlays/*.mp4")]) == 6 * kills


@pytest.mark.slow
def test_ctrl_c_leaves_no_actor(cluster: Cluster, clip: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rtseg", "batch", str(clip), "-o", str(tmp_path), "-m", str(model)]
    command += ["--precision", "fp32", "--segment", "1s", "--ray", cluster.address]
    process = subprocess.Popen(command, env=os.environ | GIVES_UP | {"PYTHONPATH": PATHS}, stdout=subprocess.DEVNULL)
    until_s = time.monotonic() + 200
    while not [*tmp_path.rglob("done.json")] and time.monotonic() < until_s:
        time.sleep(0.05)  # files of other processes tell nobody that they are there
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)  # 0: it was done before
    while names := [each.name() for each in cluster.processes() if each.name().startswith("ray::_Work")]:
        assert time.monotonic() < until_s, names
        time.sleep(0.2)  # actors are no children of this process: only looking tells that they have ended


def test_a_process_that_ends_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch, clip: Path, model: Path) -> None:
    monkeypatch.setattr("rtseg.batch.pool.sys.executable", "/bin/false")
    with pytest.raises(BackendError, match=r"--ray 1\.2\.3\.4:5 is lost, .* run the same command again"):
        RayPool(options(clip, Path("out"), model, ray="1.2.3.4:5"), 1)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('none here')")
    monkeypatch.syspath_prepend(tmp_path)
    pool: Any = None
    with pytest.raises(MissingExtra, match=r"rtseg\[ray\]"):
        pool = RayPool(options(clip, tmp_path / "out", Path("model.onnx"), ray="auto"), 1)
    assert pool is None
