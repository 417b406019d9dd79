"""Measurements of asyncstore beside its peers and the bare drivers; `python -m benchmarks` runs them all."""
