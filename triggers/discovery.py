"""Finding the assets with their watchers, and the handlers, of a module or file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from asyncstore import Asset

from .errors import DiscoveryError
from .handlers.handler import Handler

__all__ = ["Discovered", "discover", "load_assets"]


@dataclass(frozen=True, slots=True)
class Discovered:
    """Hold what was found, in the order of the module.

    :ivar assets: the assets that have watchers.
    :ivar handlers: the handlers of events.
    """

    assets: list[Asset]
    handlers: list[Handler]


def discover(target: str) -> Discovered:
    """Import a module or file, once, and give the watched assets and the handlers in it.

    Found are `Asset` objects and what `on_event` made at the top level, assets also in a list, tuple, set or dict.

    :param target: a dotted module name (the working directory is searched first), or the path of a `.py` file.
    :raises DiscoveryError: it cannot be imported, or holds neither an asset with a watcher nor a handler.
    """
    found = vars(_import(target)).values()
    assets = [asset for asset in _unique(found) if asset.watchers]
    handlers = list({id(each): each for each in found if isinstance(each, Handler)}.values())
    if not assets and not handlers:
        raise _nothing(target, found)
    return Discovered(assets, handlers)


def load_assets(target: str) -> list[Asset]:
    """Import a module or file and give the watched assets in it.

    Found are `Asset` objects at the top level, alone or in a list, tuple, set or dict.

    :param target: a dotted module name (the working directory is searched first), or the path of a `.py` file.
    :return: the assets that have watchers, in the order of the module.
    :raises DiscoveryError: it cannot be imported, or holds no asset with a watcher.
    """
    found = vars(_import(target)).values()
    watched = [asset for asset in _unique(found) if asset.watchers]
    if not watched:
        raise _nothing(target, found)
    return watched


def _unique(values: Iterable[object]) -> list[Asset]:
    return list({id(asset): asset for value in values for asset in _assets(value)}.values())


def _nothing(target: str, values: Iterable[object]) -> DiscoveryError:
    seen = ", ".join(repr(asset.name) for asset in _unique(values)) or "none"
    return DiscoveryError(
        f"{target} holds no asset with a watcher (assets found: {seen}); define one at the top level: "
        'orders = Asset("orders", watchers=[AssetWatcher("new-orders", NewOrders())]), or a handler: @on_event(orders)'
    )


def _import(target: str) -> ModuleType:
    return _import_file(Path(target)) if _is_path(target) else _import_module(target)


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target or "\\" in target


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _failed(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DiscoveryError(f"{path} is no file; name a .py file, or a module as package.module")
    # The file finds its neighbours, as a script does.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if path.stem not in sys.modules else f"watchers_in_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"{path} is no Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


def _failed(target: str, error: Exception) -> DiscoveryError:
    where = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and code.co_filename != __file__:
            where = f" ({code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return DiscoveryError(f"{target} cannot be imported: {type(error).__name__}: {error}{where}")


def _assets(value: object) -> Iterable[Asset]:
    if isinstance(value, Asset):
        return [value]
    if isinstance(value, Mapping):
        value = list(cast("Mapping[object, object]", value).values())
    if isinstance(value, list | tuple | set | frozenset):
        return [each for each in cast("Iterable[object]", value) if isinstance(each, Asset)]
    return []
