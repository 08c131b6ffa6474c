"""Loss terms of meta-training and fine-tuning, and the frozen networks that they use."""
