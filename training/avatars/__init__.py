"""One or a few pictures of a person -> an avatar."""
