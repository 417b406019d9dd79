"""What can be wrong around a store, and what to do about it: `examining` asks, `records` is what it finds."""
