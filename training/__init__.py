"""Shards -> base model. Owns networks, losses, checkpoints and fine-tuning."""
