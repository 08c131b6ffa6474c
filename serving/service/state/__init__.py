"""What the service knows: jobs, drivers, keys. One SQL database, SQLite or Postgres."""
