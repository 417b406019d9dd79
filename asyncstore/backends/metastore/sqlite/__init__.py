"""The metastore on SQLite: opening a file, lanes into it, operations on it."""
