"""Model bundles on disk: write, read, verify, export, describe."""
