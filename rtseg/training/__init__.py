"""Training: augmentation, losses, the training loop, checkpoints and validation."""
