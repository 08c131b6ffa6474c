"""Verbs of the command line that animate and serve: one module each."""
