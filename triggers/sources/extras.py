"""What a source needs beyond the plain installation."""

from __future__ import annotations

from importlib.util import find_spec

from asyncstore import ConfigurationError

__all__ = ["need"]


def need(module: str, extra: str, what: str) -> None:
    """Refuse to go on where a module is not installed.

    :param module: the module.
    :param extra: the extra of this package that brings it.
    :param what: what needs it, for people.
    :raises ConfigurationError: it is not there; says how to get it.
    """
    if find_spec(module) is None:
        raise ConfigurationError(f"{what} needs {module}, which is not installed: pip install 'asyncstore[{extra}]'")
