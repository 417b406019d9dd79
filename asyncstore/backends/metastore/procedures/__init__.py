"""What the operations of the metastore do, statement by statement, on every database."""
