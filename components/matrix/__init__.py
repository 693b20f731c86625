"""Label efficiency: mIoU by number of labels, CPS beside its supervised baseline."""
