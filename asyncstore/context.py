"""What one attempt of a task sees: its own state, and that of its inlets and outlets."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self, final, overload

from .accessors import AssetStoreAccessors, TaskStoreAccessor
from .blocking import drive
from .core import Core
from .errors import StoreError
from .scopes import Asset, AssetScope, TaskScope

__all__ = ["TaskContext"]


@final
class TaskContext:
    """Be the context of one task attempt: `async with store.task_context(scope, inlets=[orders]) as context:`.

    The assets are registered on entry. Where `[state_store] clear_on_success` is set, the task's state is cleared
    when the block ends without an exception; asset state never is.

    :param core: the store's core.
    :param scope: the task instance.
    :param inlets: the assets it reads.
    :param outlets: the assets it writes.
    :param clear_on_success: clear the task's state at a good end.
    """

    def __init__(
        self,
        core: Core,
        scope: TaskScope,
        *,
        inlets: Sequence[Asset] = (),
        outlets: Sequence[Asset] = (),
        clear_on_success: bool = False,
    ) -> None:
        if not isinstance(scope, TaskScope):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a task context belongs to a TaskScope, not to a {type(scope).__name__}: {scope!r}")
        inlets, outlets = tuple(inlets), tuple(outlets)
        for asset in (*inlets, *outlets):
            if not isinstance(asset, Asset):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"inlets and outlets are Assets, not {type(asset).__name__}: {asset!r}")
        self._core = core
        self.scope = scope
        self._assets = (*inlets, *outlets)
        self._clear_on_success = clear_on_success
        self._updated_by = f"task:{scope.ti_id}"
        self._asset_state: AssetStoreAccessors | None = None
        #: The external jobs of this attempt, by name.
        self.jobs: dict[str, object] = {}
        #: The state of this task instance.
        self.task_state = TaskStoreAccessor(core, scope, updated_by=self._updated_by)

    @property
    def asset_state(self) -> AssetStoreAccessors:
        """Return the state of the declared inlets and outlets.

        :raises StoreError: the block was not entered.
        """
        if self._asset_state is None:
            raise StoreError("enter the task context first: async with store.task_context(...) as context")
        return self._asset_state

    @overload
    def __getitem__(self, name: Literal["task_state"]) -> TaskStoreAccessor: ...
    @overload
    def __getitem__(self, name: Literal["asset_state"]) -> AssetStoreAccessors: ...
    def __getitem__(self, name: str) -> TaskStoreAccessor | AssetStoreAccessors:
        """Give `task_state` or `asset_state` by name.

        :raises KeyError: it is neither.
        """
        if name == "task_state":
            return self.task_state
        if name == "asset_state":
            return self.asset_state
        raise KeyError(f"a task context has 'task_state' and 'asset_state', not {name!r}")

    async def __aenter__(self) -> Self:
        self.jobs.clear()
        # An asset declared twice, by its name and by its URI, is one asset.
        declared: dict[int | str | None, tuple[Asset, AssetScope]] = {}
        for asset in self._assets:
            scope = await self._core.resolve_anew(asset)
            declared[scope.name if scope.asset_id is None else scope.asset_id] = asset, scope
        self._asset_state = AssetStoreAccessors(
            self._core, list(declared.values()), closed=True, updated_by=self._updated_by
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._clear_on_success:
            await self.task_state.aclear()

    def __enter__(self) -> Self:
        return drive(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drive(self.__aexit__(kind, error, trace))
