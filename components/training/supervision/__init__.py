"""Supervision of training processes: start, watch, restart and stop them, and upload their results."""
