"""The work of the service: jobs are run in a process of their own, which may crash or hang."""
