"""Find the clips of a source, and plan which split and shard each belongs to."""
