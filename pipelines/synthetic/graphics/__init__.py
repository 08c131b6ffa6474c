"""Graphics primitives of the renderer: rasterizer, Warp kernels, noise, grids."""
