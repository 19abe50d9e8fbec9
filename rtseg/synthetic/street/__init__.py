"""A synthetic street with the exact class of every pixel.

The image depends only on seed, size and time. Coordinates are in metres: x to the right of the road's centre line,
y upwards from the road, z forwards along the road. Colours are BGR.
"""

from __future__ import annotations

from rtseg.synthetic.street.render import Street
from rtseg.synthetic.street.variety import VARIETIES

__all__ = ["VARIETIES", "Street"]
