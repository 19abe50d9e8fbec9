"""Measuring rtseg on the machine at hand: storage, decoders and workers; and a clip through the backends.

    _places ──► _sets ──► _reading, _streaming ──► _turns ──► storage, clip ──► report (table, JSON, chart), compare
    (where)     (files)   (one run each)           (rounds)   (what is run)

Every figure is the median of several rounds, with quartiles; what is compared is measured in turn, in one run. A rate
is (n - 1) / (last - first); ``report.METHOD`` says of which times.
"""
