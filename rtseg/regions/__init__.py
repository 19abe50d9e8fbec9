"""Parts of the frame that a user chooses: what is labelled at all, and where events are looked for."""

from __future__ import annotations

from rtseg.regions.region import Region, parse_region, parse_regions

__all__ = ["Region", "parse_region", "parse_regions"]
