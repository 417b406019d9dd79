"""Run the program as `python -m asyncstore`."""

from __future__ import annotations

from asyncstore.cli import main

if __name__ == "__main__":
    main()
