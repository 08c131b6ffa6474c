"""The subcommands on videos and data sets, one module each."""
