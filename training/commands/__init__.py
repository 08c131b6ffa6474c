"""One file per training command."""
