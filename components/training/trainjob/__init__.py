"""Training on several nodes: a TrainJob of Kubeflow Trainer, made, followed to its end, and cleared away."""
