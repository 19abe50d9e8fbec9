"""Fuzz one parser with atheris (Python 3.11 to 3.13), until it finds an error that is not one of rtseg.

python scripts/fuzz.py metadata -max_total_time=600

The arguments after the name of the target are those of libFuzzer. Without a name, the targets are listed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:1] = [  # instead of the folder of this file, whose name is that of the package
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "tests"),
]
with atheris.instrument_imports(include=["rtseg"]):
    from fuzz.targets import TARGETS

    from rtseg.errors import RtsegError


def main() -> None:
    """Run the target that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]

    def run(data: bytes) -> None:
        try:
            target(data)
        except RtsegError:
            return

    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
