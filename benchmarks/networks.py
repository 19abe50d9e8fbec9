"""Count parameters and operations of each network, and measure its speed on this machine.

    python benchmarks/networks.py [NAME ...] [--rounds 5] [--seconds 3]

Every network is exported with random weights, with the input size and number of classes of ``rtseg.models.figures``,
and runs in OpenVINO (default precision, several images in flight). Each round measures all networks, so that a slow
phase of the machine affects all of them. Without names, all networks are measured and saved to
``rtseg/models/figures.json``, which `rtseg models` prints; with names, the results are only printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _common import commit, machine, spread, versions

from rtseg import open_backend
from rtseg.bench.network_speed import export_fresh, frames_per_second
from rtseg.models import MODELS
from rtseg.models.cost import compute_cost
from rtseg.models.figures import CLASSES, FIGURES_FILE, SIZE


def main() -> None:
    """Measure and print; save if all networks were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per network and round")
    options = parser.parse_args()
    names = options.names or list(MODELS)

    fps: dict[str, list[float]] = {name: [] for name in names}
    precision = ""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            export_fresh(name, Path(folder) / f"{name}.onnx")
            print(f"exported {name}", flush=True)
        for round_ in range(options.rounds):
            for name in names:
                with open_backend("openvino", Path(folder) / f"{name}.onnx") as backend:
                    precision = backend.precision
                    fps[name].append(frames_per_second(backend, options.seconds))
                print(f"round {round_ + 1}: {name} {fps[name][-1]:.2f} fps", flush=True)
    networks: dict[str, dict[str, Any]] = {}
    for name in names:
        cost = compute_cost(name, CLASSES, SIZE)
        networks[name] = {"parameters": cost.parameters, "flops": cost.flops, "fps": spread(fps[name])}
        median = networks[name]["fps"]["median"]
        print(f"{name}: {cost.parameters / 1e6:.1f} M, {cost.flops / 1e9:.1f} GFLOPs, {median:.2f} fps")
    if options.names:
        return
    facts = {
        "machine": machine(),
        "versions": versions("torch", "torchvision"),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "precision": precision,
        "size": list(SIZE),
        "classes": CLASSES,
        "networks": networks,
    }
    FIGURES_FILE.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"wrote {FIGURES_FILE}")


if __name__ == "__main__":
    main()
