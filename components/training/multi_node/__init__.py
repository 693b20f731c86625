"""Training on several nodes: the TrainJob, its pods, and the launcher on each."""
