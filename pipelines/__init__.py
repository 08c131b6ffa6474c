"""Videos -> Parquet shards. Owns what a shard is, what a landmark is, and where data lies."""
