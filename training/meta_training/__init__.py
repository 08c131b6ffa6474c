"""The training loop, its state across restarts, and its workers on Ray Train."""
