"""What the pipeline's containers do. Nothing here imports kfp."""
