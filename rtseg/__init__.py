"""Real-time semantic segmentation of live video."""
__version__ = "0.1.0"
