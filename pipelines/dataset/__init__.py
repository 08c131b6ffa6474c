"""The data set format: schema, rows, writer, readers, index, manifest, data card."""
