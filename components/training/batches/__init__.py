"""Training batches: which samples, decoded, cropped, augmented and mixed."""
