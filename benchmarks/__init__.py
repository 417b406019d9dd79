"""Measurements of asyncstore beside its peers and the bare drivers; `python -m benchmarks` runs them all.

How to is said in docs/how-to/measure-it.md, and what came out in docs/design/performance.md.
"""
