"""Whether values can stay with the worker: an object is put, read and deleted again."""

from __future__ import annotations

from time import monotonic
from uuid import uuid4

from ..abc import BaseStoreBackend
from ..errors import StoreError
from ..offload.abc import Keeper, Place
from ..offload.hooks import Kind
from ..offload.in_place import InPlaceKeeper
from ..offload.stored import is_reference
from ..scopes import TaskScope
from .records import Finding, failed, ok, warning

__all__ = ["examine_worker"]

_LARGEST = 4 * 2**20
_FIX = "see that the place exists, that the connection may write and delete there, and [common.io]"


async def examine_worker(worker: BaseStoreBackend) -> Finding:
    """Put, read and delete an object.

    :param worker: the worker-side backend; opened and closed.
    """
    keeper: Keeper = worker if isinstance(worker, Keeper) else InPlaceKeeper(worker)
    if keeper.threshold > _LARGEST:
        told = f"{keeper.name} keeps values from {keeper.threshold:,} bytes on; none so large was tried"
        return warning("worker", told, "lower [common.io] state_store_objectstorage_threshold to have it tried")
    scope = TaskScope("asyncstore-doctor", uuid4().hex, "probe")
    kind: Kind = "task" if "task" in keeper.kinds else "asset"
    place = Place(kind, scope.ti_id, "probe")
    value, began = "x" * max(keeper.threshold, 1), monotonic()
    try:
        async with worker:
            text = await keeper.akeep(place, value)
            same = not is_reference(text) or await keeper.aload(place, text) == value
            await keeper.adiscard([text])
            if not keeper.immutable and kind == "task":
                await keeper.aremove(scope, "probe")
    except StoreError as error:
        return failed("worker", str(error), _FIX)
    if not same:
        return failed("worker", f"{keeper.name} gave back another value than was put", "repair its hooks")
    return ok("worker", f"{keeper.name}: put, read and deleted an object in {(monotonic() - began) * 1000:.0f} ms")
