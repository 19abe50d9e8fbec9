"""The only import of OpenCV, with safe settings and a helpful error if the library cannot be loaded.

All modules write ``from rtseg.system.opencv import cv2``. The settings have an effect only before the first
``import cv2`` of the process; variables that the user has set are kept.
"""

from __future__ import annotations

import os

from rtseg.errors import MissingExtra

__all__ = ["cv2"]

_SETTINGS = {
    # A PNG of 47 kB can need 2.3 GB: images above 2**27 pixels (16384x8192) are refused as damaged.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),
    # A camera that stops sending frames blocks a read for 2 s, not for 10.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2",
    # rtseg raises its own errors; log lines of OpenCV would only disturb the live panel.
    "OPENCV_LOG_LEVEL": "FATAL",
}

for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

try:
    import cv2
except ImportError as error:
    raise MissingExtra(
        f"OpenCV cannot be loaded ({error}): apt-get install libgl1 libglib2.0-0, "
        "or use the build without windows: "
        "pip uninstall opencv-python && pip install opencv-python-headless"
    ) from error
