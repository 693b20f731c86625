"""Multi-node training: the TrainJob, its pods, and the process that runs in each."""
