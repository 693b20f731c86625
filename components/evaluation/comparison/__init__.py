"""Compare scores: intervals of a run's mIoU, and differences between runs on the same images."""
