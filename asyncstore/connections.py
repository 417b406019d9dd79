"""Named connections: options and credentials in the environment, so that no URL, file or database holds them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, cast

from .errors import ConfigurationError

__all__ = ["connection_options", "connection_variable"]


def connection_variable(connection: str) -> str:
    """Name the environment variable of a connection.

    :param connection: its id.
    """
    return f"ASYNCSTORE_CONN_{re.sub(r'[^A-Z0-9]', '_', connection.upper())}"


def connection_options(
    connection: str, *, named_by: str, holds: str, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Read the options of a connection.

    :param connection: its id.
    :param named_by: what asks for it, for people.
    :param holds: what its options are, for people.
    :param environ: the environment; left out, that of the process.
    :raises ConfigurationError: it is missing, or no JSON object; shows nothing of it.
    """
    variable = connection_variable(connection)
    text = (os.environ if environ is None else environ).get(variable)
    if text is None:
        raise ConfigurationError(
            f"{named_by} names the connection {connection!r}, and the environment has no {variable}: a JSON "
            f"object of {holds}"
        )
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(f"environment variable {variable}: allowed is a JSON object of {holds}")
    return cast("dict[str, Any]", found)
