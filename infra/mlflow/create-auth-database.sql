-- Users and permissions need a database of their own: both they and the runs have an alembic_version table.
CREATE DATABASE mlflow_auth;
