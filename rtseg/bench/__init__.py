"""Measure rtseg on this machine: reading images from each storage, and a clip through the backends.

    storage.targets ──► storage.image_sets ──► storage.passes, stage_costs ──► interleave ──► report, chart, compare
    (where)             (files)                (one run each)                  (rounds)       (tables, JSON, PNG)

Every figure is the median of several rounds, with quartiles. Everything that is compared runs in turn, in one process.
A rate is (n - 1) / (last - first); ``report.METHOD`` says which times that uses.
"""
