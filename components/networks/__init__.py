"""Network structures, pretrained backbones, and weights in and out of files."""
