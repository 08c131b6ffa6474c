"""What a source of clips holds, and the plan that assigns each clip to a split and a shard."""
