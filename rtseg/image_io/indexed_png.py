"""Write label maps as PNG with a palette: pixel values are class IDs, and every viewer shows them in colour.

OpenCV cannot write a palette, and Pillow would be a dependency just for these few lines.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels

__all__ = ["SOFTWARE_TAG", "TAG_SEARCH_BYTES", "palette_png"]

SOFTWARE_TAG: Final = b"Software\0rtseg"
"""Content of a text chunk that marks files written by rtseg."""
TAG_SEARCH_BYTES: Final = 1024
"""The tag is within this many bytes of the start of the file."""
_UP: Final = 2
"""PNG filter type: each row stores the difference to the row above."""


def palette_png(labels: Labels, palette: NDArray[np.uint8]) -> bytes:
    """Encode a label map as PNG.

    Args:
        labels: class IDs, uint8 (H, W), H and W at least 1.
        palette: RGB colour of every class ID, uint8 (256, 3).

    Source: PNG specification, third edition, sections 5 and 9; colour type 3, bit depth 8. This combination gives
    the smallest file of zlib levels 1 to 3, all strategies and the filters None and Up, and no other is faster: 6 KB
    and 0.7 ms for 960x540 (filter None and default strategy: 11 KB). zlib releases the interpreter lock.
    """
    height, width = labels.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = labels[0]
    np.subtract(labels[1:], labels[:-1], out=rows[1:, 1:])  # modulo 256, as the filter requires
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"tEXt", SOFTWARE_TAG),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"IDAT", compressor.compress(rows.data) + compressor.flush()),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
