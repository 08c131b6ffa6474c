"""Motion of a synthetic head: procedural motion and recombined tracks of real clips."""
