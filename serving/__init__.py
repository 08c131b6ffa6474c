"""Base model -> avatars and videos. Owns HTTP, jobs and deployments."""
