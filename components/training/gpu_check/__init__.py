"""Show in a few minutes that training and scoring work on a GPU: `cps doctor --device gpu`, or `make gpu-check`."""
