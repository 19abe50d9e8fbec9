"""Train on a folder of images and a folder of masks, and make a model file of the result. Needs 'rtseg[train]'.

python examples/train_folder.py mine/images mine/masks background:0+crack:255 mine.onnx

The masks have the names of the images. `background:0+crack:255` says which values in them are which class.
"""

import argparse
import sys
from pathlib import Path

from rtseg import TrainOptions, export_checkpoint, train
from rtseg.errors import RtsegError


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("classes")
    parser.add_argument("output", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/folder"))
    parser.add_argument("--model", default="icnet")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--size", type=int, nargs=2, default=(384, 640), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    height, width = arguments.size
    options = TrainOptions(
        data=(f"pairs:{arguments.images},{arguments.masks},classes={arguments.classes}",),
        output=arguments.run,
        model=arguments.model,
        size=(height, width),
        crop=(height, width),
        epochs=arguments.epochs,
        workers=0,
    )
    scores = train(options)
    print(f"best mIoU on validation: {100 * scores.miou:.1f} %")
    spec = export_checkpoint(arguments.run / "best.safetensors", arguments.output)
    print(f"wrote {arguments.output} with the classes {', '.join(spec.classes)}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
