"""Telling people that a run has ended, where they asked for it."""
