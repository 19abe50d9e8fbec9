"""Fuzz one parser with atheris (Python 3.11 to 3.13), until it finds an error that is not one of rtseg.

python scripts/fuzz.py metadata -max_total_time=600

The arguments after the name of the target are those of libFuzzer. Without a name, the targets are listed. The fuzzer
starts from valid inputs and knows the words of the format, see tests/fuzz/seeds.py; it stores what it finds in
``.fuzz/NAME``.
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
    from fuzz.seeds import SEEDS, WORDS
    from fuzz.targets import TARGETS

    from rtseg.errors import RtsegError


def main() -> None:
    """Run the target that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    target = TARGETS[name]

    def run(data: bytes) -> None:
        try:
            target(data)
        except RtsegError:
            return

    atheris.Setup([*sys.argv, *_corpus(name)], run)
    atheris.Fuzz()


def _corpus(name: str) -> list[str]:
    """Write the seeds and the dictionary of a target; returns the arguments that name them."""
    folder = Path(".fuzz", name)
    folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{index}").write_bytes(seed)
    options = [f"-artifact_prefix=.fuzz/{name}-", str(folder)]
    if not WORDS[name]:
        return options
    words = Path(".fuzz", f"{name}.dict")
    words.write_text("".join(f'"{_escape(word)}"\n' for word in WORDS[name]))
    return [f"-dict={words}", *options]


def _escape(word: str | bytes) -> str:
    data = word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word
    return "".join(f"\\x{byte:02x}" for byte in data)


if __name__ == "__main__":
    main()
