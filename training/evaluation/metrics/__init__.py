"""Image, identity and motion metrics."""
