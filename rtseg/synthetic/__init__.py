"""Synthetic images with exact labels."""
