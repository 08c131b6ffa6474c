"""The face-alignment detector: FAN landmarks in batches over frames and clips."""
