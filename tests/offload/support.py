from __future__ import annotations

from typing import Any

from asyncstore import BaseStoreBackend, MemoryBackend, Settings, Store, TaskScope, WorkersSettings, connect

TASK = TaskScope("dag", "run", "task")


def path(kind: type[BaseStoreBackend]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def open_with(kind: type[BaseStoreBackend] | None, backend: BaseStoreBackend | None = None, **sections: Any) -> Store:
    """Give a store whose values a worker-side backend keeps."""
    workers = WorkersSettings(state_backend=None if kind is None else path(kind))
    return connect(backend=backend or MemoryBackend(), settings=Settings(workers=workers, **sections))
