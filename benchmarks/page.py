"""Measure the page of ``rtseg serve``: its latency, what viewers cost, and the same over WebRTC.

    python benchmarks/page.py [--seconds 20] [--only glass viewers cost transport]

Needs playwright and Debian's chromium; ``transport`` needs aiortc and aiohttp too. See docs/benchmarks/page.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import psutil
from _common import RESULTS, ROOT, save, versions
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(ROOT / "tests"))

from helpers.doubles import UINT8, blue_graph, wide_spec

from rtseg.model_file.spec import write_spec
from rtseg.synthetic.street import Street

SIZE = (360, 640)
"""(H, W) of all images."""
FRAMES = 50
COUNTS = (1, 4, 16)
"""Viewers."""
START_S = 60
"""Longest wait for a server or a viewer."""


@contextmanager
def process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is ended afterwards."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            yield started
        finally:
            started.terminate()


@contextmanager
def page_server(source: str, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """``rtseg serve``: its address and its process."""
    with process("-m", "rtseg", "serve", source, "--port", "0", *options) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("page: "))
        yield line.split()[1], psutil.Process(server.pid)


@contextmanager
def viewers(address: str, reading: int, stalled: int) -> Iterator[list[float]]:
    """Viewers without a browser; the list gets the frames per second of each when they have left."""
    live = address.replace("http", "ws", 1) + "live"
    fps: list[float] = []
    with process(ROOT / "benchmarks" / "_page_viewers.py", live, str(reading), str(stalled)) as started:
        assert started.stdout is not None
        assert started.stdin is not None
        started.stdout.readline()
        yield fps
        started.stdin.close()
        fps += json.loads(started.stdout.readline())["fps"]


def status(address: str) -> dict[str, Any]:
    """Of the only source."""
    with urllib.request.urlopen(f"{address}api/status", timeout=START_S) as answer:
        found: dict[str, Any] = json.load(answer)["sources"][0]
    return found


def rate(address: str, seconds: float) -> float:
    """Frames per second that left the pipeline."""
    before, started_s = status(address)["frames"], time.monotonic()
    time.sleep(seconds)
    return float(status(address)["frames"] - before) / (time.monotonic() - started_s)


def cpu_s(parent: psutil.Process) -> float:
    """CPU time of a process and its children so far."""
    total = 0.0
    for each in [parent, *parent.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def chromium(playwright: Any) -> Browser:
    """Debian's browser."""
    options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    browser: Browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
    return browser


def browser_process() -> psutil.Process:
    """The process of the only Chromium below this one."""
    children = psutil.Process().children(recursive=True)
    return next(each for each in children if "chrom" in each.name() and "chrom" not in each.parent().name())


def measure_glass(seconds: float) -> dict[str, Any]:
    """From capture to paint in one browser, with a network and propagation."""
    with page_server("demo:600@640x360") as (address, _), sync_playwright() as playwright:
        tab = chromium(playwright).new_page()
        tab.goto(address, wait_until="commit")
        tab.wait_for_timeout(1e3 * seconds)
        found = tab.evaluate("({...document.querySelector('canvas').dataset})")
        source = status(address)
    return {"fps": source["fps"], "p50_ms": float(found["p50"]), "p95_ms": float(found["p95"])}


def measure_viewers(seconds: float) -> list[dict[str, Any]]:
    """The rate of the pipeline without and with viewers, of whom one never reads."""
    rows = []
    for name, options in (("25 fps source", ()), ("as fast as it can", ("--drop", "never"))):
        with page_server("demo:3600@640x360", *options) as (address, _):
            time.sleep(5)
            for reading, stalled in ((0, 0), (16, 1), (0, 0), (16, 1)):
                fps: list[float] = []
                if reading:
                    with viewers(address, reading, stalled) as fps:
                        found = rate(address, seconds / 2)
                else:
                    found = rate(address, seconds / 2)
                rows.append({"source": name, "viewers": reading, "stalled": stalled, "fps": round(found, 2)})
                rows[-1]["viewer_fps"] = round(statistics.median(fps), 2) if fps else None
    return rows


def measure_cost(options: dict[str, str], seconds: float) -> list[dict[str, Any]]:
    """CPU that the server needs at 25 fps, with next to no time for inference."""
    rows = []
    arguments = ["--model", options["model"], "--loop", "--propagate", "off", "--backend", "openvino"]
    with page_server(options["source"], *arguments) as (address, server):
        time.sleep(2)  # starting is not measured
        for count in (0, 1, 16):
            with viewers(address, count, 0) if count else nullcontext():
                time.sleep(1)  # nor is joining
                before, started_s = cpu_s(server), time.monotonic()
                time.sleep(seconds / 2)  # this is what is measured
                cores = (cpu_s(server) - before) / (time.monotonic() - started_s)
            rows.append({"viewers": count, "server_cores": round(cores, 4)})
    return rows


def write_street(folder: Path) -> dict[str, str]:
    """Images whose blue value names the class, and a model that says so: inference then costs next to nothing."""
    street = Street(SIZE, seed=3)
    (folder / "images").mkdir()
    for number in range(FRAMES):
        image, labels = street.render(number / 25)
        image[..., 0] = 16 * np.minimum(labels, 11) + 8
        cv2.imwrite(str(folder / "images" / f"{number:03}.png"), image)
    graph = blue_graph(frames=("frames", UINT8, ["N", *SIZE, 3]), labels=("labels", UINT8, ["N", *SIZE]))
    write_spec(graph, wide_spec(SIZE))
    onnx.save(graph, folder / "blue.onnx")
    return {"source": str(folder / "images"), "model": str(folder / "blue.onnx")}


def open_tabs(browser: Browser, address: str, count: int) -> list[Page]:
    """So many viewers in one browser."""
    tabs = []
    for _ in range(count):
        tabs.append(browser.new_page())
        tabs[-1].goto(address, wait_until="commit")
    return tabs


def measure_transport(kind: str, count: int, options: dict[str, str], folder: Path, seconds: float) -> dict[str, Any]:
    """Latency and CPU with ``count`` viewers in a browser; the images and the labels are the same for both kinds."""
    with sync_playwright() as playwright:
        if kind == "page":
            arguments = ["--model", options["model"], "--loop", "--propagate", "off", "--backend", "openvino"]
            with page_server(options["source"], *arguments) as (address, server):
                browser = chromium(playwright)
                return _observe(browser, open_tabs(browser, address, count), server, seconds, _page_delays)
        path = folder / "options.json"
        path.write_text(json.dumps(options))
        with process(ROOT / "benchmarks" / "_webrtc_server.py", path) as started:
            assert started.stdout is not None
            port = next(line for line in started.stdout if line.startswith("READY")).split()[1]
            address = f"http://127.0.0.1:{port}/"
            browser = chromium(playwright)
            tabs = open_tabs(browser, address, count)
            return _observe(
                browser, tabs, psutil.Process(started.pid), seconds, lambda tab: _webrtc_delays(tab, address)
            )


def _observe(browser: Browser, tabs: list[Page], server: psutil.Process, seconds: float, delays: Any) -> dict[str, Any]:
    time.sleep(4)
    shown = browser_process()
    before, started_s = (cpu_s(server), cpu_s(shown)), time.monotonic()
    time.sleep(seconds)
    span_s = time.monotonic() - started_s
    after = cpu_s(server), cpu_s(shown)
    found = [delays(tab) for tab in tabs]
    latency = {key: round(statistics.median(each[key] for each in found), 1) for key in ("p50_ms", "p95_ms")}
    cores = [round((now - then) / span_s, 2) for now, then in zip(after, before, strict=True)]
    browser.close()
    return latency | {"server_cores": cores[0], "browser_cores": cores[1]}


def _page_delays(tab: Page) -> dict[str, float]:
    """Of the last 200 frames, as the page states them."""
    found = tab.evaluate("({...document.querySelector('canvas').dataset})")
    return {"p50_ms": float(found["p50"]), "p95_ms": float(found["p95"])}


def _webrtc_delays(tab: Page, address: str) -> dict[str, float]:
    """Of the last 200 frames, from the numbers on the images."""
    with urllib.request.urlopen(f"{address}captured", timeout=START_S) as answer:
        captured = json.load(answer)
    seen = tab.evaluate("window.seen")[-200:]
    ages_ms = [at_ms - captured[str(number)] for number, at_ms in seen if str(number) in captured]
    return {f"p{percent}_ms": float(np.percentile(ages_ms, percent)) for percent in (50, 95)}


def main() -> None:
    """Measure, and save the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="*", default=["glass", "viewers", "cost", "transport"])
    arguments = parser.parse_args()
    facts: dict[str, Any] = {"versions": versions("starlette", "uvicorn", "websockets", "aiortc", "playwright")}
    if "glass" in arguments.only:
        facts["glass"] = measure_glass(arguments.seconds)
        print("glass", facts["glass"], flush=True)
    if "viewers" in arguments.only:
        facts["viewers"] = measure_viewers(arguments.seconds)
        print(*facts["viewers"], sep="\n", flush=True)
    if "cost" in arguments.only:
        with tempfile.TemporaryDirectory() as name:
            facts["cost"] = measure_cost(write_street(Path(name)), arguments.seconds)
        print(*facts["cost"], sep="\n", flush=True)
    if "transport" in arguments.only:
        with tempfile.TemporaryDirectory() as name:
            options = write_street(Path(name))
            facts["transport"] = []
            for count in COUNTS:
                for kind in ("page", "webrtc"):
                    row = measure_transport(kind, count, options, Path(name), arguments.seconds / 2)
                    facts["transport"].append({"kind": kind, "viewers": count, **row})
                    print(facts["transport"][-1], flush=True)
    path = RESULTS / "page.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    save(path, {key: value for key, value in earlier.items() if key not in ("machine", "commit")} | facts)


if __name__ == "__main__":
    main()
