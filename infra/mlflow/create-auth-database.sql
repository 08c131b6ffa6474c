-- Users and permissions live beside the runs, in a database of their own: both keep an alembic_version table.
CREATE DATABASE mlflow_auth;
