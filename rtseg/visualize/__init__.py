"""Drawing labels: overlays, legends, confusion matrices and comparisons of two label maps."""
