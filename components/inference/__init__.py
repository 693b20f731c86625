"""Inference: engines, the sliding window, and averaging over scales and mirrored copies."""
