"""Read and write videos, sound and images; untrusted videos are decoded in a child process with limits."""
