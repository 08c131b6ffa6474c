"""Look after a data set: validate it, preview it, take a person out of it."""
