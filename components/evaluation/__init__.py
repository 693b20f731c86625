"""Score every checkpoint, select the best one, and report the result."""
