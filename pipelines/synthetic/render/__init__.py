"""Rendering of synthetic people in scenes, with ground-truth landmarks."""
