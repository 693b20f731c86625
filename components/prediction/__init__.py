"""Masks, overlays and a gallery of what a network predicts for photographs."""
