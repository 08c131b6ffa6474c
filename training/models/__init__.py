"""Embedder, generator, discriminator and the warp prior (arXiv 1905.08233, section 3)."""
