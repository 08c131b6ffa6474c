"""Logging of training runs to MLflow, with a queue on disk for outages."""
