"""Write how much of the image one class covers, second by second, into a CSV file.

python examples/count_class.py dashcam.mp4 cars.csv --class Car

The model labels pixels, not objects: the table has the area of all cars in percent of the image, not their number.
"""

import argparse
import csv
import sys
from itertools import groupby
from pathlib import Path

from rtseg import open_backend, open_source
from rtseg.errors import RtsegError
from rtseg.preprocess import Prepare


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("output", type=Path)
    parser.add_argument("--class", dest="class_name", default="Car")
    arguments = parser.parse_args()
    with open_backend("auto", "icnet-camvid") as backend, arguments.output.open("w", newline="") as file:
        prepare = Prepare(backend.spec)
        class_id = backend.spec.class_id(arguments.class_name)
        table = csv.writer(file)
        table.writerow(["second", "mean_percent", "max_percent"])
        frames = open_source(arguments.source)
        for second, group in groupby(frames, key=lambda frame: int(frame.pts_s)):
            shares = [(backend.infer(prepare(frame.image)[None])[0] == class_id).mean() for frame in group]
            table.writerow([second, f"{100 * sum(shares) / len(shares):.2f}", f"{100 * max(shares):.2f}"])
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
