"""``rtseg serve`` as a command: what it refuses, what it prints, and how a signal ends it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rtseg.cli import main

TIMEOUT_S = 60


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["demo:1", "--port", "70000"], "--port must be 0 to 65535"),
        (["demo:1", "--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 8080 cannot be used"),
        (["demo:1", "--config", "cameras.toml"], "leave SOURCE and --source out"),
        (["demo:1", "--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["demo:1", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "cannot be used (No such file or directory)"),
        (["demo:1", "--token-file", "missing"], "--token-file missing cannot be read"),
        (["missing.mp4"], "missing.mp4"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_code_2(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    errors = capsys.readouterr().err
    assert problem in errors
    assert errors.count("\n") == 1


def test_a_port_in_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "demo:1", "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_within_seconds(icnet_file: Path, tmp_path: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "rtseg", "serve", "demo:60@160x120", "--port", "0", "--model", str(icnet_file)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        address = lines[1].split()[1]
        status = httpx.get(f"{address}api/status", timeout=TIMEOUT_S).json()
        with httpx.stream("GET", f"{address}stream/demo.mjpg", timeout=TIMEOUT_S) as images:
            parts = images.iter_raw()
            assert next(parts)
            process.send_signal(number)
            _, errors = process.communicate(timeout=TIMEOUT_S)
    assert lines[0].startswith("demo: tiny")
    assert status["sources"][0]["id"] == "demo"
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "ERROR" not in errors


def test_the_printed_token_opens_a_page_that_others_can_reach(icnet_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rtseg", "serve", "demo:60@160x120", "--port", "0", "--model", str(icnet_file)]
    with subprocess.Popen([*command, "--host", "0.0.0.0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        port = lines[1].split()[1].rstrip("/").rpartition(":")[2]
        headers = {"Authorization": f"Bearer {lines[3].removeprefix('token: ').strip()}"}
        url = f"http://127.0.0.1:{port}/api/status"
        codes = [httpx.get(url, headers=each, timeout=TIMEOUT_S).status_code for each in ({}, headers)]
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
    assert codes == [401, 200]
