"""Confusion matrices, and the figures that follow from them."""
