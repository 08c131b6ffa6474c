"""What the networks are trained by: adversarial, perceptual, identity and pixel losses."""
