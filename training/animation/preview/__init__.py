"""A picture of what a portrait and a driver will give, before any video is rendered."""
