"""Labels drawn as images."""
