"""Frames that start from different shots, of one avatar or of several, drawn in one batch."""
