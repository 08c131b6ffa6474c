"""Measurements of the service: `sfumato bench serve`."""
