"""One file per command on shards."""
