"""Network structures, pretrained backbones, and weights files."""
