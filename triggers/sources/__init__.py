"""Triggers for the outside world, one package each."""
