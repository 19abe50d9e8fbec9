"""Picture files with a plane beside the colours: what is wrong with the others, and how a TIFF stores it.

libtiff, which OpenCV reads with, takes a fourth sample of 8 bits for transparency and multiplies the colours by it; of
16 bits in separate planes OpenCV makes garbage, and of CMYK a fourth plane that says nothing. The tags tell them apart.
"""

from __future__ import annotations

import struct
from typing import Final

from rtseg._heads import tiff_tags

__all__ = ["PictureError", "PlanesError", "with_plain_fourth_sample"]

_ORDERS: Final = {b"II*\x00": "<", b"MM\x00*": ">"}
_BIG: Final = (b"II+\x00", b"MM\x00+")
_PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 262, 277, 284, 338
_RGB, _TOGETHER, _UNSPECIFIED = 2, 1, 0


class PictureError(ValueError):
    """A picture file cannot be used. The text goes on where the name of the file ends: ``is damaged or cut off``."""


class PlanesError(PictureError):
    """A picture file does not hold the planes that are wanted."""

    @classmethod
    def of(cls, found: int, wanted: int) -> PlanesError:
        """The sentence for a file of ``found`` channels where ``wanted`` are needed, 2 or 4."""
        base = "colours" if wanted == 4 else "grey"
        return cls(
            f"gives {found} channel{'s' * (found != 1)}, not the {wanted} that are wanted: "
            f"store {base} and the other plane as a PNG with alpha"
        )


def with_plain_fourth_sample(data: bytes) -> bytes:
    """``data`` itself, or of a TIFF a copy that does not call its fourth sample transparency.

    Raises:
        PlanesError: it is a TIFF whose fourth sample OpenCV cannot be trusted with.

    Source: TIFF revision 6.0, 1992, sections 2 (structure), 8 (tags) and 18 (ExtraSamples).
    """
    if data.startswith(_BIG):
        raise PlanesError("is a BigTIFF, of which only colours can be read: store it as a PNG with alpha")
    order = _ORDERS.get(data[:4])
    tags = tiff_tags(data) if order else {}
    samples = tags.get(_SAMPLES, (0, 1))[1]
    if samples < 4:
        return data
    told = tags.get(_PHOTOMETRIC, (0, 0))[1], tags.get(_PLANAR, (0, _TOGETHER))[1]
    if samples > 4 or told != (_RGB, _TOGETHER):
        raise PlanesError("is a TIFF of bands or of separate planes, not of RGBA pixels: store it as those")
    if _EXTRA not in tags:
        return data
    at = tags[_EXTRA][0]
    return data[:at] + struct.pack(f"{order}H", _UNSPECIFIED) + data[at + 2 :]
