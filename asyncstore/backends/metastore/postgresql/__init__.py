"""The metastore on PostgreSQL, through asyncpg."""
