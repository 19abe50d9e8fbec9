"""What reading images costs, on your own storage."""
