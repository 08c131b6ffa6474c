"""Benchmarks of `sfumato bench NAME`: ratios within one run, and the machine they were measured on."""
