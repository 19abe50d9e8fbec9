from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtseg.backends.tensorrt.engine_file import (
    EngineFacts,
    EngineRequirements,
    covers,
    engine_path,
    facts_path,
    find_engine,
    install_engine,
    mismatch_reason,
    read_engine,
    read_engine_facts,
    runtime_cache_path,
    staged,
    write_staged,
)
from rtseg.errors import ModelError, SinkError
from rtseg.model_file.spec import ModelSpec

SPEC = ModelSpec("tiny", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), (64, 96), extra={"note": "ü"})
PLAN = b"a plan of TensorRT" * 100
FACTS = EngineFacts(
    model="tiny",
    model_sha256="a" * 64,
    engine_sha256=hashlib.sha256(PLAN).hexdigest(),
    runtime="rtx",
    runtime_version="1.7.1.116",
    precision="fp16",
    batch=1,
    targets=("sm_86", "sm_89"),
    gpu=None,
    driver=None,
    spec=SPEC,
    state_shape=(4, 8, 12),
    build_seconds=0.5,
    built="2026-07-31",
    rtseg="0.1",
    ranges_sha256=None,
    certificate={
        "passed": True,
        "agreement": 0.9995,
        "miou": None,
        "budget": {"max_drop": 0.05},
        "data": "images",
        "judged_by": "a test",
    },
)


def install(path: Path, facts: EngineFacts = FACTS, plan: bytes = PLAN) -> Path:
    with staged(path) as part:
        write_staged(part, plan, facts)
        install_engine(part, facts, path)
    return path


class TestFacts:
    @pytest.mark.parametrize("changes", [{}, {"state_shape": None, "gpu": "NVIDIA A2", "driver": "580.65.06"}])
    def test_what_was_written_is_read(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        facts = replace(FACTS, **changes)
        path = install(tmp_path / "x.engine", facts)
        assert read_engine_facts(path) == facts
        assert read_engine_facts(path).size == (64, 96)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["x.engine", "x.engine.json"]

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda text: text[: len(text) // 2], "cannot be read"),
            (lambda text: "[]", "cannot be read"),
            (lambda text: text.replace('"batch"', '"patch"'), "patch"),
            (lambda text: text.replace('"format": 1', '"format": 7', 1), "of format 7, this rtseg reads 1"),
            (lambda text: text.replace('"dark"', '"bright"'), "class names repeat"),
            (lambda text: text.replace('"rtx"', '"onnx"'), "onnx"),
            (lambda text: text.replace('"sm_86"', '"86"'), "86"),
            (lambda text: text.replace('"batch": 1', '"batch": "1"'), "its batch is '1'"),
            (lambda text: text.replace('"judged_by"', '"judged"'), "its certificate is incomplete"),
            (lambda text: text.replace('"budget": {', '"budget": null, "x": {'), "its certificate is incomplete"),
        ],
    )
    def test_a_damaged_json_is_named_with_what_to_do(
        self, tmp_path: Path, damage: Callable[[str], str], message: str
    ) -> None:
        path = install(tmp_path / "x.engine")
        text = facts_path(path).read_text()
        facts_path(path).write_text(damage(text))
        assert facts_path(path).read_text() != text
        with pytest.raises(ModelError) as caught:
            read_engine_facts(path)
        text = str(caught.value)
        assert text.startswith(f"{path}.json: ")
        assert message in text
        assert text.endswith("build it again with `rtseg build-engine`")

    def test_bytes_that_are_no_text_are_told_too(self, tmp_path: Path) -> None:
        path = install(tmp_path / "x.engine")
        facts_path(path).write_bytes(b"\xff\xfe\x80")
        with pytest.raises(ModelError, match=r"x\.engine\.json cannot be read"):
            read_engine_facts(path)

    def test_an_engine_without_json_and_no_engine_at_all_are_told_apart(self, tmp_path: Path) -> None:
        path = install(tmp_path / "x.engine")
        facts_path(path).unlink()
        with pytest.raises(ModelError, match=r"x\.engine has no x\.engine\.json beside it: build it again"):
            read_engine_facts(path)
        with pytest.raises(ModelError, match=r"no engine at .*y\.engine: make it with `rtseg build-engine`"):
            read_engine_facts(tmp_path / "y.engine")


class TestCheck:
    def test_a_whole_engine_is_read(self, tmp_path: Path) -> None:
        assert read_engine(install(tmp_path / "x.engine"), FACTS) == PLAN

    def test_one_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "x.engine").mkdir()
        with pytest.raises(ModelError, match=r"x\.engine cannot be read \(Is a directory\): build it again"):
            read_engine(tmp_path / "x.engine", FACTS)

    @pytest.mark.parametrize("content", [PLAN[:-1], PLAN[:-1] + b"?", b""])
    def test_one_that_was_cut_off_or_changed_does_not(self, tmp_path: Path, content: bytes) -> None:
        path = install(tmp_path / "x.engine")
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"x\.engine is damaged or was changed: build it again"):
            read_engine(path, FACTS)


NEEDED: dict[str, Any] = {
    "model_sha256": "a" * 64,
    "size": (64, 96),
    "runtime": "rtx",
    "runtime_version": "1.7.1.116",
    "targets": ("sm_89",),
}


class TestMismatchReason:
    @pytest.mark.parametrize(
        "changes", [{}, {"precision": "fp16", "batch": 1, "gpu": "NVIDIA A2"}, {"targets": ("sm_89", "sm_86")}]
    )
    def test_none_where_it_fits(self, changes: dict[str, Any]) -> None:
        assert mismatch_reason(FACTS, EngineRequirements(**NEEDED | changes)) is None

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"model_sha256": "b" * 64}, "was built from another model file"),
            (
                {"runtime_version": "1.8.0.1"},
                "was built by TensorRT-RTX 1.7.1.116, this is TensorRT-RTX 1.8.0.1",
            ),
            (
                {"runtime": "tensorrt", "runtime_version": "11.4"},
                "was built by TensorRT-RTX 1.7.1.116, this is TensorRT 11.4",
            ),
            ({"precision": "int8"}, "computes in fp16, not in int8"),
            ({"size": (96, 64)}, "was built for 64x96, not for 96x64"),
            ({"batch": 4}, "takes batches of up to 1, not of 4"),
            ({"targets": ("sm_86", "sm_120")}, "was built for sm_86, sm_89, not for sm_120"),
        ],
    )
    def test_the_reason_says_what_it_is_and_what_is_wanted(self, changes: dict[str, Any], reason: str) -> None:
        assert mismatch_reason(FACTS, EngineRequirements(**NEEDED | changes)) == reason

    def test_an_engine_for_one_gpu_does_not_fit_another_of_its_capability(self) -> None:
        facts = replace(FACTS, gpu="NVIDIA L4", targets=("sm_89",))
        assert mismatch_reason(facts, EngineRequirements(**NEEDED, gpu="NVIDIA L4")) is None
        other = EngineRequirements(**NEEDED, gpu="NVIDIA L40S")
        assert mismatch_reason(facts, other) == "was built for NVIDIA L4, this is NVIDIA L40S"

    @pytest.mark.parametrize(
        ("targets", "expected", "fits"),
        [
            (("sm_86",), "sm_86", True),
            (("sm_86",), "sm_89", False),
            (("sm_86+",), "sm_86", True),
            (("sm_86+",), "sm_90", True),
            (("sm_86+",), "sm_120", True),
            (("sm_86+",), "sm_80", False),
            (("sm_86+",), "sm_75", False),
            (("sm_86+",), "sm_86+", True),
            (("sm_86", "sm_120"), "sm_86+", False),
            ((), "sm_86", False),
        ],
    )
    def test_a_plus_covers_all_that_come_after(self, targets: tuple[str, ...], expected: str, fits: bool) -> None:
        assert covers(targets, expected) is fits


class TestPath:
    def test_it_names_model_precision_runtime_and_targets(self) -> None:
        path = engine_path(Path("engines"), "icnet-camvid", "fp16", "rtx", ("sm_86", "sm_89"))
        assert path == Path("engines/icnet-camvid-fp16-rtx-sm_86-sm_89.engine")

    @pytest.mark.parametrize("name", ["../up", "a/b", "two words", "a\0b"])
    def test_no_name_of_a_model_leads_out_of_the_folder(self, name: str) -> None:
        path = engine_path(Path("engines"), name, "fp16", "rtx", ("sm_86+",))
        assert path.parent == Path("engines")
        assert "\0" not in path.name
        assert path.name.endswith("-fp16-rtx-sm_86+.engine")


class TestFind:
    def find(self, folder: Path, **changes: Any) -> Any:
        return find_engine(folder, EngineRequirements(**NEEDED | changes))

    def test_nothing_is_found_where_there_is_no_folder(self, tmp_path: Path) -> None:
        found = self.find(tmp_path / "none")
        assert (found.path, found.facts, found.reasons) == (None, None, ())

    def test_the_one_that_fits_is_found_and_the_others_say_why_not(self, tmp_path: Path) -> None:
        install(tmp_path / "a.engine", replace(FACTS, runtime_version="1.6.0.1"))
        install(tmp_path / "b.engine", replace(FACTS, targets=("sm_86",)))
        install(tmp_path / "c.engine")
        install(tmp_path / "d.engine")
        facts_path(tmp_path / "d.engine").write_text("{")
        found = self.find(tmp_path)
        assert (found.path, found.facts) == (tmp_path / "c.engine", FACTS)
        assert len(found.reasons) == 3
        assert "a.engine was built by TensorRT-RTX 1.6.0.1" in found.reasons[0]
        assert "b.engine was built for sm_86, not for sm_89" in found.reasons[1]
        assert "d.engine.json: it cannot be read" in found.reasons[2]

    def test_one_that_is_damaged_is_told_and_the_next_that_fits_is_taken(self, tmp_path: Path) -> None:
        damaged = install(tmp_path / "a.engine")
        whole = install(tmp_path / "b.engine", replace(FACTS, batch=4))
        damaged.write_bytes(PLAN[:-1])
        found = self.find(tmp_path)
        assert found.path == whole
        assert f"{damaged} is damaged or was changed" in found.reasons[0]

    def test_engines_of_other_models_and_unfinished_ones_are_passed_over(self, tmp_path: Path) -> None:
        install(tmp_path / "other.engine", replace(FACTS, model_sha256="b" * 64))
        write_staged(tmp_path / "x.part.engine", PLAN, FACTS)
        found = self.find(tmp_path)
        assert (found.path, found.reasons) == (None, ())

    def test_fp16_goes_before_int8_before_fp32_and_small_batches_before_large_ones(self, tmp_path: Path) -> None:
        order = [("fp16", 1), ("fp16", 4), ("int8", 1), ("fp32", 1)]
        names = iter("dbca")  # another order than that of the names
        paths = [
            install(tmp_path / f"{next(names)}.engine", replace(FACTS, precision=precision, batch=batch))
            for precision, batch in order
        ]
        for path in paths:
            assert self.find(tmp_path).path == path
            path.unlink()

    def test_what_was_built_on_this_gpu_goes_before_what_was_built_for_all_of_its_kind(self, tmp_path: Path) -> None:
        install(tmp_path / "a.engine", replace(FACTS, gpu=None))
        own = install(tmp_path / "b.engine", replace(FACTS, gpu="NVIDIA L4"))
        assert self.find(tmp_path, gpu="NVIDIA L4").path == own
        assert self.find(tmp_path, gpu="NVIDIA L40S").path == tmp_path / "a.engine"

    def test_a_precision_that_is_asked_for_is_taken(self, tmp_path: Path) -> None:
        install(tmp_path / "a.engine")
        path = install(tmp_path / "b.engine", replace(FACTS, precision="fp32"))
        found = self.find(tmp_path, precision="fp32")
        assert found.path == path
        assert "a.engine computes in fp16, not in fp32" in found.reasons[0]


class TestInstall:
    def test_a_new_pair_takes_the_place_of_the_old_one(self, tmp_path: Path) -> None:
        path = install(tmp_path / "x.engine")
        plan = PLAN + b"2"
        facts = replace(FACTS, engine_sha256=hashlib.sha256(plan).hexdigest(), built="2026-08-01")
        install(path, facts, plan)
        assert path.read_bytes() == plan
        assert read_engine_facts(path) == facts
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_is_staged_and_not_installed_is_gone_afterwards(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), staged(tmp_path / "x.engine") as part:  # noqa: PT012
            write_staged(part, PLAN, FACTS)
            runtime_cache_path(part).touch()
            assert len(list(tmp_path.iterdir())) == 3
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_what_the_proof_compiled_takes_the_place_of_what_was_compiled_of_the_old_one(self, tmp_path: Path) -> None:
        path = install(tmp_path / "x.engine")
        runtime_cache_path(path).write_text("old")
        with staged(path) as part:
            write_staged(part, PLAN, FACTS)
            runtime_cache_path(part).write_text("new")
            install_engine(part, FACTS, path)
        assert runtime_cache_path(path).read_text() == "new"
        assert len(list(tmp_path.iterdir())) == 3

    def test_two_that_are_made_at_once_are_both_installed_and_the_later_one_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "x.engine"
        plans = [PLAN, PLAN + b"2"]
        facts = [replace(FACTS, engine_sha256=hashlib.sha256(plan).hexdigest()) for plan in plans]
        with staged(path) as first, staged(path) as second:
            write_staged(first, plans[0], facts[0])
            write_staged(second, plans[1], facts[1])
            install_engine(first, facts[0], path)
            assert path.read_bytes() == plans[0]
            install_engine(second, facts[1], path)
        read_engine(path, read_engine_facts(path))
        assert path.read_bytes() == plans[1]
        assert len(list(tmp_path.iterdir())) == 2

    def test_one_that_is_installed_waits_for_another(self, tmp_path: Path) -> None:
        path = tmp_path / "x.engine"
        with staged(path) as part, ThreadPoolExecutor(1) as threads:
            write_staged(part, PLAN, FACTS)
            folder = os.open(tmp_path, os.O_RDONLY)
            fcntl.flock(folder, fcntl.LOCK_EX)
            try:
                installed = threads.submit(install_engine, part, FACTS, path)
                with pytest.raises(TimeoutError):
                    installed.result(timeout=0.1)
                assert not path.exists()
            finally:
                os.close(folder)
            installed.result(timeout=10)
        assert path.exists()

    @pytest.mark.parametrize("steps", range(8))
    def test_wherever_the_machine_stops_no_engine_is_found_beside_facts_of_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
    ) -> None:
        class PowerCut(BaseException):
            pass

        path = install(tmp_path / "x.engine")
        plan = PLAN + b"2"
        facts = replace(FACTS, engine_sha256=hashlib.sha256(plan).hexdigest())
        left = steps

        def counted(method: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise PowerCut
                left -= 1
                return method(*arguments, **options)

            return step

        part = tmp_path / "x.part.engine"
        with monkeypatch.context() as patch:
            for name in ("open", "replace", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            try:
                write_staged(part, plan, facts)
                install_engine(part, facts, path)
            except PowerCut:
                pass
            else:
                assert steps > 5
        try:
            found = read_engine_facts(path)
        except ModelError:
            assert path.is_file(), "an engine without facts is built again; one that is gone would be a loss"
        else:
            read_engine(path, found)

    def test_a_full_disk_is_told_and_the_old_pair_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = install(tmp_path / "x.engine")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(SinkError, match=r"cannot write .*No space left on device; choose another path"):
            install(path, FACTS, PLAN + b"2")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["x.engine", "x.engine.json"]
        assert path.read_bytes() == PLAN
        assert json.loads(facts_path(path).read_text())["model"] == "tiny"
