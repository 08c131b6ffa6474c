"""A synthetic person in a scene -> pictures with true landmarks."""
