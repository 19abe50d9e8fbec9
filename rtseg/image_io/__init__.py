"""Finding, reading ahead, caching, decoding and writing images."""
