"""Checks of a driver and of a rendered video: frames without the face, and quality."""
