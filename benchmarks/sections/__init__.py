"""The parts of a run; each gives tables, verdicts on targets, charts and data."""
