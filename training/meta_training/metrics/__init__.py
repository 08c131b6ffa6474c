"""Figures of a run: of its steps, of its machine, and for Prometheus."""
