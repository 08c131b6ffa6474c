"""Parametric heads: talking-head clips with true landmarks."""
