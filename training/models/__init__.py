"""Embedder, generator, discriminator and identity rows (arXiv 1905.08233, section 3)."""
