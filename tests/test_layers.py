"""Who may import whom, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import asyncstore
import triggers
from asyncstore import (
    AssetStoreAccessor,
    AssetStoreAccessors,
    BaseStoreBackend,
    Consumer,
    EventLog,
    MetastoreBackend,
    Store,
    TaskContext,
    TaskStoreAccessor,
)

ROOT = Path(asyncstore.__file__).parent.parent
PACKAGES: list[ModuleType] = [asyncstore, triggers]

#: What asyncstore offers to other packages besides its own front door: the fleet, named connections and listings of
#: buckets, and how commands are added to its program.
DOORS = {
    *("asyncstore", "asyncstore.fleet"),
    *("asyncstore.connections", "asyncstore.backends.objects.listing"),
    *("asyncstore.cli.commands", "asyncstore.cli.completing", "asyncstore.cli.failures", "asyncstore.cli.output"),
    *("asyncstore.cli.running", "asyncstore.cli.showing"),
}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """Give every module that a file imports from, and the names it takes; None for the module itself."""
    package = list(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def test_the_finder_of_imports_finds_them() -> None:
    found = set(imports(ROOT / "asyncstore" / "backends" / "metastore" / "procedures" / "commit.py"))
    assert {
        ("asyncstore.clock", "to_microseconds"),
        ("asyncstore.changes", "Clear"),
        ("asyncstore.registration.deciding", "inactive"),
        ("asyncstore.backends.metastore", "statements"),
    } <= found


def test_asyncstore_never_imports_triggers() -> None:
    for file in sources("asyncstore"):
        assert not [module for module, _ in imports(file) if module.partition(".")[0] == "triggers"], file


def test_loading_all_of_asyncstore_loads_no_triggers() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sources("asyncstore")
        if file.stem not in {"env", "__main__"} and not file.stem[0].isdigit()
    ]
    script = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    script += "assert not [name for name in sys.modules if name.partition('.')[0] == 'triggers']"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_triggers_imports_public_names_only() -> None:
    for file in sources("triggers"):
        for module, name in imports(file):
            if module.partition(".")[0] != "asyncstore":
                continue
            assert module in DOORS, f"{file}: {module}"
            assert name in importlib.import_module(module).__all__, f"{file}: {module}.{name}"


def test_the_extension_points_do_not_know_who_extends_them() -> None:
    for module, _ in imports(ROOT / "asyncstore" / "abc.py"):
        assert not module.startswith(
            ("asyncstore.backends.metastore", "asyncstore.backends.memory", "asyncstore.store")
        )


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_is_what_is_exported(package: ModuleType) -> None:
    exported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(package.__file__ or "").read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert set(package.__all__) == exported
    assert len(package.__all__) == len(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_all_of_every_module_is_there() -> None:
    for package in PACKAGES:
        for file in sources(package.__name__):
            if file.stem in {"env", "__main__"} or file.stem[0].isdigit():
                continue
            module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for name in getattr(module, "__all__", ()):
                assert hasattr(module, name), f"{module.__name__}.{name}"


def test_every_error_is_public_and_a_store_error() -> None:
    errors = importlib.import_module("asyncstore.errors")
    assert set(errors.__all__) <= set(asyncstore.__all__)
    for name in errors.__all__:
        kind = getattr(asyncstore, name)
        assert issubclass(kind, asyncstore.StoreError | UserWarning)
        assert name in (errors.__doc__ or "")


def documented(package: ModuleType) -> Iterator[tuple[str, object]]:
    """Give every class and function that is public, with the public methods and properties of its own."""
    for name in package.__all__:
        thing = getattr(package, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        yield name, thing
        for attribute, member in vars(thing).items() if inspect.isclass(thing) else ():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                yield f"{name}.{attribute}", member


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_everything_public_has_a_docstring_of_its_own(package: ModuleType) -> None:
    things = list(documented(package))
    assert len(things) > 20
    for name, thing in things:
        text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
        assert text, name
        first = text.strip().splitlines()[0]
        assert first.endswith((".", ":")) or first[-1].isalnum(), name
        # What a dataclass gives itself is no documentation.
        assert not text.startswith(f"{name}("), name


#: Operations that make sense on a loop only.
NO_TWIN = {"awatch", "aclaim_watcher"}


@pytest.mark.parametrize(
    "kind",
    [TaskStoreAccessor, AssetStoreAccessor, AssetStoreAccessors, Store, EventLog, Consumer],
    ids=lambda kind: kind.__name__,
)
def test_every_async_operation_has_a_sync_twin_of_the_same_signature(kind: type) -> None:
    names = [name for name, member in inspect.getmembers(kind) if name[0] == "a" and is_async(member)]
    assert names
    for name in names:
        if name in NO_TWIN:
            assert not hasattr(kind, name[1:])
            continue
        assert parameters(getattr(kind, name)) == parameters(getattr(kind, name[1:])), name
        assert not is_async(getattr(kind, name[1:]))


@pytest.mark.parametrize("kind", [BaseStoreBackend, MetastoreBackend], ids=lambda kind: kind.__name__)
def test_the_four_operations_of_a_backend_have_sync_shims(kind: type) -> None:
    for name in ("get", "set", "delete", "clear"):
        assert parameters(getattr(kind, f"a{name}")) == parameters(getattr(kind, name))


@pytest.mark.parametrize("kind", [Store, TaskContext, MetastoreBackend], ids=lambda kind: kind.__name__)
def test_what_is_entered_async_can_be_entered_without_a_loop(kind: type) -> None:
    for name in ("enter", "exit"):
        assert parameters(getattr(kind, f"__a{name}__")) == parameters(getattr(kind, f"__{name}__"))


def is_async(member: object) -> bool:
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_the_overridden_operations_of_a_backend_keep_their_signatures() -> None:
    for kind in (MetastoreBackend, asyncstore.MemoryBackend):
        for name, member in inspect.getmembers(BaseStoreBackend, is_async):
            if not name.startswith("_"):
                assert parameters(getattr(kind, name)) == parameters(member), f"{kind.__name__}.{name}"


def test_sqlalchemy_is_imported_where_databases_are_spoken_to_only() -> None:
    rooms = ("asyncstore/backends/metastore/", "triggers/sources/table/")
    for package in PACKAGES:
        for file in sources(package.__name__):
            place = str(file.relative_to(ROOT))
            found = {module for module, _ in imports(file) if module.partition(".")[0] == "sqlalchemy"}
            assert not found or place.startswith(rooms), f"{place}: {found}"


def test_triggers_alone_loads_no_sqlalchemy() -> None:
    script = "import sys, triggers, triggers.cli\nassert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
