"""A corpus of synthetic clips: its plan, its files and their ground truth."""
