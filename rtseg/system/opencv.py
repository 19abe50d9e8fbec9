"""OpenCV, imported in one place: with its bounds set, and with a way out where the machine cannot load it.

All of rtseg writes ``from rtseg.system.opencv import cv2``. The settings work only before the first ``import cv2`` of
the process; a variable that the user has set stays as it is.
"""

from __future__ import annotations

import os

from rtseg.errors import MissingExtra

__all__ = ["cv2"]

_SETTINGS = {
    # A 47 kB PNG can ask for 2.3 GB: an image above 2**27 pixels (16384x8192) is refused as damaged.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),
    # A camera that falls silent holds a read for 2 s, not for 10.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2",
    # What goes wrong becomes an error of rtseg; OpenCV's own lines would only tear the live panel.
    "OPENCV_LOG_LEVEL": "FATAL",
}

for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

try:
    import cv2
except ImportError as error:
    raise MissingExtra(
        f"OpenCV cannot be loaded ({error}): apt-get install libgl1 libglib2.0-0, "
        "or use the build that needs no display: "
        "pip uninstall opencv-python && pip install opencv-python-headless"
    ) from error
