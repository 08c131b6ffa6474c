"""How good a model is: the published protocol, its measures, baselines in the same table, and the report."""
