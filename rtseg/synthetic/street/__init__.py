"""A street that rtseg draws itself, with the exact class of every pixel.

The street is a function of seed, size and time and of nothing else. Lengths are metres: x to the right of the
road's middle line, y up from the road, z forward along it. Colours are BGR.
"""

from __future__ import annotations

from rtseg.synthetic.street.render import Street

__all__ = ["Street"]
