"""`python -m benchmarks` runs every measurement; see `--help`."""

from __future__ import annotations

import signal
import sys

from .databases.server import ServerError
from .options import parse
from .runner import measure


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run what the command line says."""
    # As Ctrl-C does, let everything that was started be stopped.
    signal.signal(signal.SIGTERM, _stop)
    try:
        return measure(parse())
    except ServerError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
