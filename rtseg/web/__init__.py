"""The page: ``rtseg serve`` shows live results in a browser."""
