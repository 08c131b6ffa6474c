"""Meta-training: step, loop, checkpoints, and workers on Ray Train."""
