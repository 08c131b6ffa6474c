"""Training batches: K shots and a target of one video, from shards or drawn online."""
