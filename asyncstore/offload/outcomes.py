"""What the error of a write tells of its row."""

from __future__ import annotations

from ..errors import (
    AssetError,
    ConfigurationError,
    LeaseLostError,
    SchemaError,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
    StoreReadOnlyError,
    UnsupportedOperationError,
    VersionConflictError,
)

__all__ = ["surely_failed"]

#: What is raised before a row is touched, or undoes what was done.
_SURE = (
    *(AssetError, ConfigurationError, LeaseLostError, SchemaError, StoreClosedError, VersionConflictError),
    *(StoreBusyError, StoreFullError, StoreReadOnlyError, UnsupportedOperationError, ValueError, TypeError),
)


def surely_failed(error: BaseException) -> bool:
    """Tell whether an error says that nothing was written; after any other one the row may be there.

    :param error: what the backend of the rows raised.
    """
    return isinstance(error, _SURE)
