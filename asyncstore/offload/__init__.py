"""Values that stay with the worker: what is called around the store, and what the store holds in their place."""
