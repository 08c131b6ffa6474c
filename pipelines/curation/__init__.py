"""Maintain a data set: validate it, preview it, remove a person from it."""
