"""How good labels are. Nothing here needs torch."""
