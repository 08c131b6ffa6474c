"""What a shard is: schema, rows, writer, readers, index, manifest, data card."""
