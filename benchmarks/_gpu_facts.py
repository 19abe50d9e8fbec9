"""Write a JSON file with card, driver, machine, and the versions of all packages. Used by ``gpu.sh``.

python benchmarks/_gpu_facts.py FILE
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def main() -> None:
    """Write what can be found out; a part that fails says why."""
    facts = {
        "cards": attempt(cards),
        "driver": attempt(driver),
        "cuda_of_torch": attempt(cuda_of_torch),
        "nvcc": attempt(nvcc),
        "machine": attempt(machine),
        "versions": {name: each.version for each in distributions() if (name := each.metadata["Name"])},
    }
    Path(sys.argv[1]).write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps({name: facts[name] for name in ("cards", "driver", "cuda_of_torch", "nvcc")}))


def attempt(find: Callable[[], Any]) -> Any:
    """Return what ``find`` returns, or its error: rtseg may not be importable before its packages are installed."""
    try:
        return find()
    except Exception as error:  # noqa: BLE001 - the error is the fact
        return {"error": f"{type(error).__name__}: {error}"}


def cards() -> list[dict[str, Any]]:
    """Return name, compute capability and memory of each card."""
    from rtseg.system.nvidia import list_gpus

    return [{"name": gpu.name, "target": gpu.target, "memory_mb": gpu.memory / 1e6} for gpu in list_gpus()]


def driver() -> str | None:
    """Return the version of the driver."""
    from rtseg.system.nvidia import driver_version

    return driver_version()


def cuda_of_torch() -> dict[str, Any]:
    """Return torch's versions, and whether it can use the card."""
    import torch

    return {"torch": str(torch.__version__), "cuda": torch.version.cuda, "usable": torch.cuda.is_available()}


def nvcc() -> str:
    """Return the last line of ``nvcc --version``."""
    return subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, system and Python."""
    from rtseg.bench.environment import machine

    return machine()


if __name__ == "__main__":
    main()
