"""`python -m asyncstore.cli` is `asyncstore`."""

from __future__ import annotations

from .program import main

if __name__ == "__main__":
    main()
