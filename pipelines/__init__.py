"""Turn videos into Parquet shards of face crops and landmarks; own storage, media, faces and the data set format."""
