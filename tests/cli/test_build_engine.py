"""``rtseg build-engine`` as a user meets it: what it prints, and its exit codes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.small_graphs import brightest, uncast

from rtseg.backends.tensorrt.engine_file import read_engine_facts
from rtseg.cli import main
from rtseg.cli._recipe import read_recipe
from rtseg.deploy.options import EngineOptions
from rtseg.errors import OptionError
from rtseg.weights import bundled_models

RECIPES = sorted((Path(__file__).parents[2] / "engines").glob("*.toml"))
ENGINE = "engines/brightest-fp16-rtx-sm_86+.engine"
COMMAND = ["build-engine", "brightest.onnx", "--data", "synthetic:street,frames=1", "--runtime", "rtx"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, on a machine without a driver."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rtseg.backends.tensorrt.library.driver_version", lambda: None)
    monkeypatch.setattr("rtseg.deploy.build_engine.find_gpu", lambda: None)
    monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: None)
    brightest(Path("brightest.onnx"))
    return tmp_path


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")


def asked(monkeypatch: pytest.MonkeyPatch, *command: str) -> EngineOptions:
    """What a command line asks of ``rtseg.deploy.build_engine``, which does nothing about it."""

    caught: list[EngineOptions] = []

    def note(options: EngineOptions, **ignored: Any) -> None:
        caught.append(options)
        raise OptionError("nothing is built here")

    monkeypatch.setattr("rtseg.deploy.build_engine.build_engine", note)
    assert main(["build-engine", *command]) == 2
    return caught[0]


@pytest.mark.usefixtures("rtx")
class TestCommand:
    def test_it_tells_what_was_built_and_how_good_the_labels_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(COMMAND) == 0
        said = capsys.readouterr()
        assert said.err == ""
        wrote, proof = said.out.splitlines()
        assert wrote.startswith(f"wrote {ENGINE} (")
        assert wrote.endswith("brightest, fp16, 32x64, for sm_86+")
        assert proof.startswith("labels agree on 100.00 % of pixels, mIoU +0.00 points: the graph on the CPU by ONNX ")
        assert proof.endswith("on synthetic street val (1 frames)")

    def test_a_second_time_there_is_nothing_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(COMMAND)
        capsys.readouterr()
        assert main(COMMAND) == 0
        assert capsys.readouterr().out == f"{ENGINE} matches, nothing to do (--force builds it again)\n"

    def test_why_it_is_built_again_is_told_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(COMMAND)
        Path(ENGINE).write_bytes(b"cut off")
        capsys.readouterr()
        assert main(COMMAND) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == f"building again: {ENGINE} is damaged or was changed"
        assert said[1].startswith("wrote ")

    def test_a_recipe_builds_and_the_command_line_goes_before_it(self) -> None:
        recipe = "model = 'brightest.onnx'\nprecision = 'fp32'\ntarget = 'sm_86, sm_89'\nmax-drop = 1\n"
        Path("r.toml").write_text(recipe + "data = 'synthetic:street,frames=1'\nruntime = 'rtx'\noutput = 'r.engine'\n")
        assert main(["build-engine", "r.toml", "--target", "sm_120"]) == 0
        facts = read_engine_facts(Path("r.engine"))
        assert (facts.precision, facts.targets) == ("fp32", ("sm_120",))
        assert facts.certificate["budget"]["max_drop"] == 1

    def test_labels_that_are_wrong_end_it_with_1_and_nothing_is_written(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        brightest(Path("brightest.onnx"), gain=1000.0)
        assert main(COMMAND) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"rtseg: {ENGINE} is not written, ")
        assert said.err.count("\n") == 1
        assert list(Path("engines").iterdir()) == []

    def test_ctrl_c_ends_it_with_130(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        def press(*ignored: object, **options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("rtseg.deploy.build_engine.verify", press)
        assert main(COMMAND) == 130
        assert capsys.readouterr() == ("stopped; nothing was written\n", "")
        assert list(Path("engines").iterdir()) == []

    @pytest.mark.parametrize(
        ("command", "told"),
        [
            ("", "Missing argument 'MODEL'"),
            ("none", "no model 'none'"),
            ("none.toml", "none.toml cannot be read"),
            ("brightest.onnx --precision bf16", "--precision must be one of fp16, fp32, int8"),
            ("brightest.onnx --precision int8", "rtseg calibrate"),
            ("brightest.onnx --batch 0", "--batch must be 1 to 64"),
            ("brightest.onnx --batch many", "--batch"),
            ("brightest.onnx --size 64", "--size must be HEIGHTxWIDTH"),
            ("brightest.onnx --size 50x50", "multiples of 32"),
            ("brightest.onnx --runtime cuda", "--runtime must be one of auto, tensorrt, rtx"),
            ("brightest.onnx --target 8.6", "--target must be compute capabilities"),
            ("brightest.onnx --target sm_90", "does not build for sm_90: use sm_75"),
            ("brightest.onnx --timing-cache t", "--timing-cache is for TensorRT"),
            ("brightest.onnx -o x.plan", "--output must end in .engine"),
            ("brightest.onnx -o brightest.onnx/x.engine", "cannot be written"),
            ("brightest.onnx -o /proc/x/y.engine", "cannot be written"),
            ("brightest.onnx --data camvid:none", "none"),
            ("brightest.onnx --max-drop -1", "--max-drop must be points of mIoU"),
            ("uncast.onnx --precision fp32 --data synthetic:street,frames=1", "Found unsupported input type of UINT8"),
        ],
    )
    def test_a_mistake_is_one_line_and_code_2_and_nothing_is_written(
        self, folder: Path, capfd: pytest.CaptureFixture[str], command: str, told: str
    ) -> None:
        uncast(Path("uncast.onnx"))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        runtime = [] if "--runtime" in command else ["--runtime", "rtx"]
        assert main(["build-engine", *command.split(), *runtime]) == 2
        said = capfd.readouterr()
        assert said.err.startswith("rtseg: ")
        assert said.err.count("\n") == 1
        assert told in said.err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


class TestRecipe:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_ours_ask_for_a_bundled_model_in_a_precision_that_the_name_tells(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = asked(monkeypatch, str(path))
        assert options.model in bundled_models()
        assert path.stem == f"{str(options.model).removesuffix('-camvid')}-{options.precision}"

    def test_every_bundled_model_has_one_in_fp16_and_in_int8(self) -> None:
        there = {path.stem for path in RECIPES}
        for name in bundled_models():
            assert {f"{name.removesuffix('-camvid')}-{precision}" for precision in ("fp16", "int8")} <= there

    def test_every_key_reaches_the_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("all.toml").write_text(
            "model = 'm.onnx'\nprecision = 'int8'\nbatch = 4\nsize = '64x96'\nruntime = 'tensorrt'\ntarget = 'sm_90'\n"
            "timing-cache = 't.cache'\noutput = 'x.engine'\ndata = 'camvid:there'\nmax-drop = 0.25\n"
        )
        assert asked(monkeypatch, "all.toml", "--force") == EngineOptions(
            model="m.onnx",
            precision="int8",
            batch=4,
            size=(64, 96),
            runtime="tensorrt",
            targets=("sm_90",),
            timing_cache=Path("t.cache"),
            output=Path("x.engine"),
            force=True,
            data="camvid:there",
            max_drop=0.25,
        )

    def test_every_option_of_the_command_line_does_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = "--precision int8 --batch 4 --size 64x96 --runtime tensorrt --target sm_90,sm_89 --timing-cache t.cache"
        more = "-o x.engine --data camvid:there --max-drop 0.25"
        options = asked(monkeypatch, "m.onnx", *given.split(), *more.split())
        assert options == EngineOptions(
            model="m.onnx",
            precision="int8",
            batch=4,
            size=(64, 96),
            runtime="tensorrt",
            targets=("sm_90", "sm_89"),
            timing_cache=Path("t.cache"),
            output=Path("x.engine"),
            data="camvid:there",
            max_drop=0.25,
        )

    def test_what_nobody_gave_is_as_the_options_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert asked(monkeypatch, "icnet-camvid") == EngineOptions("icnet-camvid")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "model = 'a'\nprecison = 'fp16'",
                "has the key 'precison', which is not an option; known are model",
            ),
            ("model = 'a'\nbatch = '4'", "batch must be a whole number, got '4'"),
            ("model = 'a'\nbatch = true", "batch must be a whole number, got True"),
            ("model = 'a'\nmax-drop = 'little'", "max-drop must be a number, got 'little'"),
            ("model = 7", "model must be text, got 7"),
            ("precision = 'fp16'", "names no model"),
            ("model = ", "is not TOML"),
            ("model = 'a'\n[more]\nbatch = 2", "has the key 'more'"),
        ],
    )
    def test_a_mistake_is_named(self, text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path("r.toml").write_text(text)
        assert main(["build-engine", "r.toml"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("rtseg: r.toml")
        assert told in said

    def test_bytes_that_are_no_text_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copy("brightest.onnx", "r.toml")
        assert main(["build-engine", "r.toml"]) == 2
        assert "r.toml is not TOML" in capsys.readouterr().err

    def test_a_recipe_gives_what_it_says_and_nothing_else(self) -> None:
        Path("r.toml").write_text("model = 'a'\nmax-drop = 1")
        assert read_recipe(Path("r.toml")) == {"model": "a", "max_drop": 1.0}
