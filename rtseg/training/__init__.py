"""Training: random views, losses, the loop, checkpoints and metrics."""
