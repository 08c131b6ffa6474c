"""Animate a film: parts of its person's motion are replaced by a driver's, all else stays as it is."""
