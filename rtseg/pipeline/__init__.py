"""The stages of a run, the threads and channels between them, and the report of a run."""
