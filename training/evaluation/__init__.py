"""Evaluation of models: the published protocol, methods and baselines, metrics, and the report."""
