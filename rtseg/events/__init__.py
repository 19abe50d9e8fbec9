"""Events: when they begin and end, and where they are sent."""
