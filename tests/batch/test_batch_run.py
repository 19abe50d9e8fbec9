"""Whole runs with processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.batch_options import options

from rtseg.batch.run import BatchRun
from rtseg.batch.store import Store
from rtseg.errors import OptionError, SourceError, SourceNotFound
from rtseg.system.output_lock import OutputInUse


def files(folder: Path) -> dict[str, bytes]:
    """The results, without the times that ``done.json`` holds."""
    paths = (path for path in (folder / "segments").rglob("*") if path.is_file() and path.name != "done.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def library(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, and a file that is none."""
    folder = tmp_path_factory.mktemp("library")
    for name in ("a.mp4", "sub/b.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, folder / name)
    (folder / "damaged.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def reference(library: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("reference")
    with BatchRun(options(library, output, model, write=("shares", "masks", "overlay"), workers=2)) as run:
        report = run.run()
        assert run.finish()
    assert (report.done, report.frames, report.skipped) == (6, 120, 0)
    assert [Path(path).name for path, _ in report.unusable] == ["damaged.mp4"]
    with pytest.raises(SourceError, match="1 videos or segments"):
        run.check()
    return output


def test_results_can_be_read_as_one_table(reference: Path) -> None:
    from rtseg.batch.manifest import load_pyarrow

    pa, parquet = load_pyarrow()
    table = pa.concat_tables([parquet.read_table(path) for path in sorted(reference.rglob("shares.parquet"))])
    rows = table.to_pylist()
    assert len(rows) == 120 * 3
    assert sorted({(row["source"][-5:], row["frame"], row["pts_s"]) for row in rows})[59] == ("a.mp4"[-5:], 59, 5.9)
    assert all(row["components"] >= (row["share"] > 0) for row in rows)


def test_overlays_are_joined_with_all_frames_at_their_times(reference: Path) -> None:
    import av

    for path in (reference / "overlays").glob("*.mp4"):
        with av.open(str(path)) as container:
            times = [round(float(frame.time or 0), 3) for frame in container.decode(video=0)]
        assert times == [round(number / 10, 3) for number in range(60)]
    assert len([*(reference / "overlays").glob("*.mp4")]) == 2


def test_the_summary_needs_no_other_file_and_names_what_failed(reference: Path) -> None:
    page = (reference / "summary.html").read_text()
    assert "http" not in page
    assert "damaged.mp4" in page
    assert "not a readable video" in page
    assert page.count("<svg") >= 3


def test_a_second_run_does_nothing(library: Path, model: Path, reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("segments/**/*")}
    with BatchRun(options(library, reference, model, write=("shares", "masks", "overlay"))) as run:
        assert run.run().skipped == 6
        run.finish()
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("segments/**/*")} == before


def test_changes_are_named_and_only_what_they_concern_is_done_again(
    library: Path, model: Path, reference: Path, tmp_path: Path
) -> None:
    output, videos = tmp_path / "out", tmp_path / "videos"
    shutil.copytree(reference, output)
    same = {"write": ("shares", "masks", "overlay")}
    with BatchRun(options(library, output, model, **same | {"alpha": 0.7})) as run:
        assert run.plan.changed == {"the options have changed": 6}
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\x7a\x00")  # an empty training entry: another file, the same graph
    with BatchRun(options(library, output, other, **same)) as run:
        assert run.plan.changed == {"the model has changed": 6}
    shutil.copytree(library, videos)
    with BatchRun(options(videos, output, model, **same)) as run:
        assert len(run.plan.jobs) == 6  # other paths: other videos
        assert not run.plan.changed


def test_shards_divide_the_work_and_the_last_one_finishes(
    library: Path, model: Path, reference: Path, tmp_path: Path
) -> None:
    for number, (done, is_last) in enumerate(((3, False), (3, True)), start=1):
        shard = options(library, tmp_path, model, shard=f"{number}/2", write=("shares", "masks", "overlay"))
        with BatchRun(shard) as run:
            assert run.run().done == done
            assert run.finish() == is_last
    assert files(tmp_path) == files(reference)


def test_a_run_with_other_options_waits_for_none_that_works(library: Path, model: Path, tmp_path: Path) -> None:
    with (
        BatchRun(options(library, tmp_path, model)),
        pytest.raises(OutputInUse, match="is used by a run with other videos or options"),
    ):
        BatchRun(options(library, tmp_path, model, segment_s=3.0))
    with BatchRun(options(library, tmp_path, model)), BatchRun(options(library, tmp_path, model)):
        pass  # the same options: they share the work


def test_a_segment_that_fails_three_times_is_set_aside_until_retry(model: Path, clip: Path, tmp_path: Path) -> None:
    videos, output = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    video = shutil.copy(clip, videos / "a.mp4")
    with BatchRun(options(videos, output, model, segment_s=100.0)) as run:
        Path(video).write_bytes(b"replaced while it runs")
        report = run.run()
        assert report.done == 0
        assert len(report.set_aside) == 1
    failure = Store(output).failure(run.plan.jobs[0].name)
    assert failure is not None
    assert failure["tries"] == 3
    assert "not a readable video" in failure["error"]
    shutil.copy(clip, video)
    with BatchRun(options(videos, output, model, segment_s=100.0)) as run:
        assert len(run.plan.set_aside) == 1
    with BatchRun(options(videos, output, model, segment_s=100.0, retry=True)) as run:
        assert run.run().done == 1


@pytest.mark.parametrize("videos", ["none-*.mp4", "missing.mp4"])
def test_inputs_that_name_nothing_are_refused(videos: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        BatchRun(options(tmp_path / videos, tmp_path / "out", model))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"shard": "0/2"}, {"shard": "3/2"}, {"write": ("all",)}, {"segment_s": 0.1}])
def test_wrong_options_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        options(tmp_path, tmp_path, tmp_path, **wrong)


def kill_at_random(library: Path, model: Path, output: Path, kills: int, seed: int) -> None:
    """Run the command again and again, and kill the run or one of its processes each time, until it has ended alone."""
    command = [sys.executable, "-m", "rtseg", "batch", str(library), "-o", str(output), "-m", str(model)]
    command += ["--precision", "fp32", "--segment", "2s", "--write", "shares,masks,overlay", "--workers", "2"]
    chance = random.Random(seed)
    paths = os.pathsep.join(path for path in sys.path if path)
    for number in range(kills + 1):
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
        try:
            if number == kills:
                assert process.wait(120) == 2  # one file is no video
                return
            process.wait(chance.uniform(0.5, 4.0))
        except subprocess.TimeoutExpired:
            victims = [process.pid, *children_of(process.pid)]
            victim = chance.choice(victims)
            os.kill(victim, signal.SIGKILL)
            if victim != process.pid:
                process.send_signal(signal.SIGINT)
        process.wait(60)


def children_of(pid: int) -> list[int]:
    """The processes that ``pid`` has started."""
    import psutil

    return [child.pid for child in psutil.Process(pid).children()]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_that_are_killed_end_complete_with_the_same_files(
    kills: int, library: Path, model: Path, reference: Path, tmp_path: Path
) -> None:
    kill_at_random(library, model, tmp_path, kills, seed=kills)
    assert files(tmp_path) == files(reference)
    assert not [*tmp_path.rglob("*part*")]
    assert not [*(tmp_path / "failed").iterdir()] or kills > 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_files(
    library: Path, model: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'rtseg[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with BatchRun(options(library, tmp_path, model, write=("shares", "masks", "overlay"), ray="auto")) as run:
        assert run.run().done == 6
        assert run.finish()
    assert files(tmp_path) == files(reference)
