"""What the videos show of each frame."""
