"""Model bundles on disk: write, read, verify, export, describe; find them by name."""
