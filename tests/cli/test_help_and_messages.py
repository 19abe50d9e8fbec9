"""What all commands have in common: help, completion, quiet, verbose and the log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from rtseg.cli import app, main
from rtseg.cli.command_table import COMMANDS

GROUPS = ("data", "config")
NAMES = [*sorted(name for name in COMMANDS if name not in GROUPS), "data check", "config check"]
SCRIPT = "import sys; from rtseg.cli import main; sys.exit(main())"


def help_of(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*name.split(), "--help"]) == 0
    return capsys.readouterr().out


def parameters(name: str) -> list[typer.core.TyperOption | typer.core.TyperArgument]:
    command = typer.main.get_command(app)
    context = typer.Context(command)  # type: ignore[arg-type]
    for word in name.split():
        _, command, _ = command.resolve_command(context, [word])  # type: ignore[attr-defined]
    return command.params  # type: ignore[return-value]


class TestHelp:
    @pytest.mark.parametrize("name", NAMES)
    def test_it_ends_with_examples_a_line_each_of_existing_options(
        self, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = help_of(name, capsys, monkeypatch, width=60)
        examples = text.partition(" Examples:\n")[2].splitlines()
        assert 2 <= len([line for line in examples if line]) <= 4
        for line in filter(None, examples):
            words = line.partition("rtseg ")[2].split()
            command = " ".join(words[:2]) if words[0] in GROUPS else words[0]
            flags = {flag for parameter in parameters(command) for flag in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= flags

    @pytest.mark.parametrize("name", NAMES)
    def test_every_option_is_explained_in_sentences(self, name: str) -> None:
        for parameter in parameters(name):
            assert parameter.help, f"{name} {parameter.opts} has no help"
            assert re.match(r"[A-Za-z.*0-9]", parameter.help), parameter.help
            assert parameter.help.rstrip().endswith("."), parameter.help
            assert "``" not in parameter.help
            assert "unless given" not in parameter.help

    @pytest.mark.parametrize("name", NAMES)
    def test_its_paragraphs_flow(
        self, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = help_of(name, capsys, monkeypatch, width=2000)
        paragraphs = [line.strip() for line in text.partition("╭")[0].splitlines() if line.strip()][1:]
        assert paragraphs
        assert all(paragraph.endswith((".", "...")) for paragraph in paragraphs)

    @pytest.mark.parametrize("name", NAMES)
    def test_one_name_means_one_thing_in_every_command(self, name: str) -> None:
        flags = {flag: parameter for parameter in parameters(name) for flag in parameter.opts}
        assert not {"--model-size", "--cache-folder", "--verify-data"} & set(flags)
        if "--report" in flags:
            assert flags["--report"].metavar == "FILE.json"
        if "--size" in flags:
            assert flags["--size"].metavar == "HEIGHTxWIDTH"
        for long, short in (("--output", "-o"), ("--data", "-d"), ("--quiet", "-q"), ("--source", "-s")):
            if long in flags:
                assert short in flags[long].opts

    def test_the_list_of_commands_imports_none_of_them(self) -> None:
        code = (
            "import sys; from rtseg.cli import main; assert main(['--help']) == 0\n"
            "print('loaded:', *(name for name in sys.modules if name.startswith('rtseg.')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        loaded = set(done.stdout.splitlines()[-1].split()[1:])
        assert loaded == {"rtseg.cli", "rtseg.cli.command_table", "rtseg.errors", "rtseg.version"}

    def test_a_command_that_is_misspelt_gets_a_suggestion(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["steam"]) == 2
        expected = "No such command 'steam'"
        if hasattr(app, "suggest_commands"):
            expected += ". Did you mean 'stream'"  # since typer 0.20
        assert expected in capsys.readouterr().err


class TestCompletion:
    def complete(self, words: str, shell: str = "bash") -> list[str]:
        """What the shell would offer for the last word."""
        environment = os.environ | {"_RTSEG_COMPLETE": f"complete_{shell}"}
        if shell == "bash":
            environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        else:
            environment |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    @pytest.mark.parametrize(
        ("words", "offers"),
        [
            ("rtseg str", ["stream"]),
            ("rtseg stream --contou", ["--contours"]),
            ("rtseg stream --view ", ["overlay", "mask", "side", "image"]),
            ("rtseg train --sched", ["--schedule"]),
            ("rtseg data ch", ["check"]),
        ],
    )
    def test_bash_gets_commands_options_and_values(self, words: str, offers: list[str]) -> None:
        assert self.complete(words) == offers

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_zsh_and_fish_get_commands(self, shell: str) -> None:
        assert any("stream" in line for line in self.complete("rtseg str", shell))

    def test_the_help_offers_to_install_it(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = help_of("", capsys, monkeypatch)
        assert "--install-completion" in text
        assert "--show-completion" in text


class TestMessages:
    @pytest.mark.parametrize("words", [["stream", "--quiet"], ["-q", "stream"], ["stream", "-q"]])
    def test_quiet_is_given_before_or_after_the_command(
        self, words: list[str], icnet_file: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--source", "demo:0.1@96x64", "--model", str(icnet_file), "--output", "null"]
        assert main([*words, *options]) == 0
        assert capfd.readouterr() == ("", "")

    def test_quiet_keeps_results(self, icnet_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["eval", "--data", "synthetic:street,frames=1", "--model", str(icnet_file), "--quiet"]) == 0
        assert "mean (mIoU)" in capfd.readouterr().out

    @pytest.mark.parametrize("words", [["stream", "--verbose"], ["-v", "stream"], ["stream", "--log-level", "info"]])
    def test_verbose_logs_to_standard_error(
        self, words: list[str], icnet_file: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--source", "demo:0.1@96x64", "--model", str(icnet_file), "--output", "null"]
        assert main([*words, *options]) == 0
        assert re.search(r"INFO rtseg: rtseg \d.*, Python 3.*: rtseg stream\n", capfd.readouterr().err)

    def test_debug_logs_the_cause_of_an_error_without_passwords(self, capfd: pytest.CaptureFixture[str]) -> None:
        words = ["stream", "http://user:geheim@127.0.0.1:9/video.mp4", "--output", "null", "--log-level", "debug"]
        assert main(words) == 2
        err = capfd.readouterr().err
        assert "Traceback" in err
        assert "geheim" not in err
        assert err.splitlines()[-1].startswith("rtseg: ")

    def test_without_them_nothing_is_logged_and_no_handler_is_left(self, capfd: pytest.CaptureFixture[str]) -> None:
        import logging

        before = list(logging.getLogger().handlers)
        assert main(["stream", "none.mp4", "--log-level", "debug"]) == 2
        assert main(["stream", "none.mp4"]) == 2
        assert capfd.readouterr().err.splitlines()[-1].startswith("rtseg: there is no file or folder none.mp4")
        assert logging.getLogger().handlers == before

    def test_the_version_is_printed_alone(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert re.fullmatch(r"rtseg \d+\.\d+\.\d+\n", capfd.readouterr().out)
