"""Animate an avatar with a driving video: retarget landmarks and gaze, generate frames, paste them back."""
