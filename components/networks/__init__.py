"""Network structures, pretrained backbones, and reading and writing weights."""
