"""How a synthetic head moves: procedural motion and recombined tracks of real clips."""
