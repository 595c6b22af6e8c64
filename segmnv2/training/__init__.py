"""Training runs: trainer, checkpoints, logs and the folder of a run."""
