"""Rasterisation kernels, noise and grids that the renderer is made of."""
