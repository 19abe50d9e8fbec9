"""A small result of each kind, built by the code under test from known values."""

from __future__ import annotations

from typing import Any

from rtseg.bench.environment import spread
from rtseg.bench.report import make_result
from rtseg.bench.storage.ratios import ratios, shares_of_best

WORKLOAD = {"source": "clip.mp4", "frames": 10, "model": "tiny", "model_size": None}


def passes(images_per_s: float) -> dict[str, Any]:
    return {
        "images_per_s": spread([images_per_s]),
        "mb_per_s": spread([2 * images_per_s]),
        "in_memory": 0.0,
        "as_said": True,
    }


def reading_row(storage: str, decoder: str, workers: int | str | None, cold: float, warm: float) -> dict[str, Any]:
    return {
        "storage": storage,
        "simulated": storage == "hdd",
        "decoder": decoder,
        "workers": workers,
        "skipped": None if cold else f"{decoder} decodes no PNG",
        "cold": passes(cold) if cold else None,
        "warm": passes(warm) if cold else None,
    }


def pipeline_row(storage: str | None, state: str, fps: float, p95: float = 20.0) -> dict[str, Any]:
    stages = ("read", "prepare", "infer", "render", "null")
    return {
        "source": storage or "clip.mp4",
        "storage": storage,
        "simulated": storage == "hdd",
        "state": state,
        "decoder": "cv2" if storage else None,
        "in_memory": 0.0 if storage else None,
        "as_said": True,
        "asked_for": "auto",
        "model": "tiny",
        "model_sha256": "0" * 64,
        "size": [64, 96],
        "backend": "openvino",
        "precision": "fp32",
        "device": "CPU",
        "runtime_version": "1",
        "preprocess": [],
        "preprocess_of_model": [],
        "fps": spread([fps]),
        "latency_ms": {"p50": spread([10.0]), "p95": spread([p95]), "p99": spread([30.0])},
        "stages": {stage: {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "mean_ms": 1.5} for stage in stages},
        "queues": {"read": {"mean": 1.0, "max": 3}},
        "frames": 10,
        "dropped": 2,
        "busy": {stage: 0.9 if stage == "infer" else 0.1 for stage in stages},
        "bottleneck": "infer",
        "cpu_ms": {"read": 1.0, "infer": 9.0},
        "limit_fps": 200.0,
        "share_of_limit": fps / 200,
    }


def storage_result() -> dict[str, Any]:
    """An SSD and a simulated disk, with the values that the tests of the ratios expect."""
    reading = [
        reading_row("ssd", "cv2", 0, 50, 80),
        reading_row("ssd", "cv2", 2, 100, 160),
        reading_row("ssd", "cv2", "auto", 95, 168),
        reading_row("ssd", "pil", 0, 30, 40),
        reading_row("ssd", "turbojpeg", None, 0, 0),
        reading_row("hdd", "cv2", 0, 25, 80),
        reading_row("hdd", "cv2", 2, 10, 160),
        reading_row("hdd", "cv2", "auto", 38, 160),
    ]
    cache = [{"storage": "hdd", "simulated": True, "first": passes(30), "second": passes(90)}]
    pipeline = [pipeline_row("ssd", "cold", 40), pipeline_row("hdd", "cold", 20)]
    sections = {
        "reading": reading,
        "cache": cache,
        "pipeline": pipeline,
        "automatic": shares_of_best(reading),
        "ratios": ratios(reading, cache, pipeline),
        "complete": True,
    }
    return make_result("storage", sections, {"drawn": [4, 64, 64, "png"], "prefetch_mb": 256}, load=0.1)


def clip_result(fps: float = 30.0, p95: float = 20.0) -> dict[str, Any]:
    """One backend in both modes."""
    rows = [pipeline_row(None, "file", fps), pipeline_row(None, "live", 25.0, p95)]
    return make_result("pipeline", {"pipeline": rows, "complete": True}, dict(WORKLOAD), load=0.1)
