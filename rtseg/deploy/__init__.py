"""Export, calibrate, build and verify models."""
