"""The work behind each command, as a Python API."""
