"""The code that runs in the pipeline's containers. Nothing here imports kfp."""
