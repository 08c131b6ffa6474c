"""Image, identity and motion metrics, and the networks that they use."""
