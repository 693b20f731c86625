"""Predict photographs, and write masks, overlays and a gallery."""
