"""Models that others publish: which there are, downloading them, and making model files of them."""
