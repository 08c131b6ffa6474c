"""What `sfumato bench NAME` measures: ratios within one run, with the machine they were measured on."""
