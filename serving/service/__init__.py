"""The HTTP service: routes, job queue, workers, files."""
