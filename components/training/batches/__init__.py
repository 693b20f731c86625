"""Training batches: sampling, decoding, augmentation and CutMix."""
