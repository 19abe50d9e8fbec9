"""The threads of a run, the channels between them, and what a run reports."""
