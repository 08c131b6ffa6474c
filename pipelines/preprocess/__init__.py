"""Turn planned shards into rows, and run them on Beam."""
