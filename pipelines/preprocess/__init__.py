"""A planned shard -> its rows, and the wiring that runs it on Beam."""
