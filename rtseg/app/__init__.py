"""What each command does, for programs too: options in, results out."""
