"""Metrics of predicted labels. Nothing here needs torch."""
