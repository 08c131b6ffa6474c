"""Training batches of episodes (K shots and a target of one video), from shards or from synthetic people."""
