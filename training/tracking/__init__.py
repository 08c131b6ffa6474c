"""What a training tells MLflow, and how that survives MLflow's absence."""
