"""Alembic's migrations of the metastore."""
