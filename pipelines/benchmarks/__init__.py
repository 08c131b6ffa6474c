"""The benchmarks of `sfumato bench NAME`: ratios within one run, with a description of the machine."""
