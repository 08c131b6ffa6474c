"""Many portraits by many drivers: inputs, work folder, reports."""
