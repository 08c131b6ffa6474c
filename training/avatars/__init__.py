"""Make an avatar from one or a few pictures of a person."""
