"""Durable consumers of events: several readers divide them, each event is handled until it is done."""
