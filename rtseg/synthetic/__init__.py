"""Images that rtseg draws itself, with exact labels."""
