"""Measure how fast images are read from each storage."""
