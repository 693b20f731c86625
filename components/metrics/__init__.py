"""Confusion matrices and the metrics computed from them."""
