"""Label efficiency: mIoU by number of labels, and the gain of methods over a supervised baseline."""
