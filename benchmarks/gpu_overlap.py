"""Measure whether copies and the network overlap on a GPU.

    python benchmarks/gpu_overlap.py [--model icnet-camvid] [--size 1024x2048] [--output overlap.json]

A frame goes through four stages: a copy into page-locked memory, upload, the network, download of the labels. With
several frames in flight, no frame can take less than the slowest of them. The share is that stage's time / the time
between two frames of the backend: 1 means that everything else is hidden behind it.

- copy, upload, download: each alone, with arrays of the sizes that the backend uses; medians
- run: torch's CUDA graph, replayed alone. For TensorRT it is the latency without the three copies.
- latency and interval: as in ``backends.py``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, save, versions
from _worker import Case, Config, Worker

_RUNS = 200
BACKENDS = ("torch", "tensorrt")


def main() -> None:
    """Measure both backends in fp16, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="icnet-camvid")
    parser.add_argument("--size", default="1024x2048", help="HEIGHTxWIDTH")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement of a backend")
    parser.add_argument("--output", type=Path, default=RESULTS / "overlap.json")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    copies, run_ms = measure_stages(options.model, (height, width))
    facts: dict[str, Any] = {"method": __doc__, "model": options.model, "size": [height, width], "backends": {}}
    facts["versions"] = versions("torch", "tensorrt-rtx", "pycuda")
    for backend in BACKENDS:
        with Worker(Case(options.model, (height, width), 1), Config(backend, "fp16", "cuda")) as worker:
            worker.measure(options.seconds)
        if worker.failure:
            facts["backends"][backend] = {"failure": worker.failure}
        else:
            latency_ms = 1e3 * float(np.median(worker.latencies_s[-1]))
            run = run_ms if backend == "torch" else latency_ms - sum(copies.values())
            facts["backends"][backend] = overlap({**copies, "run": run}, latency_ms, 1e3 / worker.rates[-1])
        print(f"{backend}: {facts['backends'][backend]}", flush=True)
        save(options.output, facts)
    print(f"wrote {options.output}")


def overlap(stages_ms: dict[str, float], latency_ms: float, interval_ms: float) -> dict[str, Any]:
    """Return the stages, and the share of the slowest in the time between two frames."""
    slowest = max(stages_ms, key=stages_ms.__getitem__)
    return {
        "stages_ms": stages_ms,
        "latency_ms": latency_ms,
        "interval_ms": interval_ms,
        "slowest": slowest,
        "share_of_slowest": stages_ms[slowest] / interval_ms,
    }


def measure_stages(model: str, size: tuple[int, int]) -> tuple[dict[str, float], float]:
    """Return milliseconds of the three copies, and of the network as a CUDA graph."""
    import torch

    from rtseg.backends.torch import Gpu, TorchNetwork, build_network
    from rtseg.model_file.input_size import resize_input
    from rtseg.model_file.load import load_model
    from rtseg.weights import find_model

    device = torch.device("cuda")
    gpu = Gpu(device)
    network = TorchNetwork(build_network(resize_input(load_model(find_model(model)), size)), device, "fp16")
    frame = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    host_frame, host_labels = gpu.pinned((1, *size, 3)), gpu.pinned((1, *size))
    frames, labels = torch.from_numpy(frame).to(device), torch.zeros((1, *size), dtype=torch.uint8, device=device)
    stream = gpu.stream()

    def run() -> None:
        labels.copy_(network(frames)[0])

    replay = gpu.capture(run, stream, gpu.pool())

    def timed(work: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(_RUNS):
            stream.synchronize()
            started = time.perf_counter()
            with gpu.on(stream):
                work()
            stream.synchronize()
            seconds.append(time.perf_counter() - started)
        return 1e3 * float(np.median(seconds))

    copies = {
        "copy": timed(lambda: np.copyto(host_frame.numpy(), frame)),
        "upload": timed(lambda: frames.copy_(host_frame, non_blocking=True)),
        "download": timed(lambda: host_labels.copy_(labels, non_blocking=True)),
    }
    return copies, timed(replay)


if __name__ == "__main__":
    main()
