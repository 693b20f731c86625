"""A run from its request to its end: what is asked for, planned, recorded, found again and removed."""
