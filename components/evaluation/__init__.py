"""The sweep over every checkpoint, the choice of the best, and the report."""
