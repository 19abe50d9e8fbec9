"""Compare the labels of all backends with those of torch fp32.

    python benchmarks/agreement.py SOURCE [SOURCE ...] [--stride 12] [--frames 8]

Prints the share of pixels with the same label over all frames, and in the worst frame. Of each source, ``--frames``
frames are used, every ``--stride``-th.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import RESULTS, save, versions

from rtseg import SourceOptions, open_backend, open_source
from rtseg.preprocess import Prepare

PAIRS = (("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32"))


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default="icnet-camvid")
    parser.add_argument("--stride", type=int, default=12)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    part = SourceOptions(stride=options.stride, max_frames=options.frames)
    images = [frame.image for source in options.sources for frame in open_source(source, part)]
    rows = {}
    reference = None
    for name, precision in PAIRS:
        with open_backend(name, options.model, precision=precision) as backend:
            prepare = Prepare(backend.spec)
            labels = np.stack([backend.infer(prepare(image)[None])[0].copy() for image in images])
        reference = labels if reference is None else reference
        same = (labels == reference).mean(axis=(1, 2))
        rows[f"{name} {precision}"] = {"agreement": float(same.mean()), "worst_frame": float(same.min())}
        print(f"{name} {precision}: {100 * same.mean():.3f} %, worst frame {100 * same.min():.3f} %")
    facts = {
        "frames": len(images),
        "model": options.model,
        "rows": rows,
        "versions": versions("torch", "onnxruntime"),
    }
    print(f"{len(images)} frames; wrote {save(RESULTS / 'agreement.json', facts)}")


if __name__ == "__main__":
    main()
