"""Watch a folder: one durable event for each complete version of a file."""
