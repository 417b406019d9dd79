from __future__ import annotations

import ast
import inspect
from pathlib import Path

from triggers import testing


def test_all_is_what_is_exported_and_has_a_docstring_of_its_own() -> None:
    tree = ast.parse(Path(testing.__file__).read_text())
    exported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level for alias in node.names
    }
    assert set(testing.__all__) == exported
    for name in testing.__all__:
        thing = getattr(testing, name)
        assert (thing.__doc__ or "").strip(), name
        for attribute, member in vars(thing).items() if inspect.isclass(thing) else ():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{attribute}"


def test_the_options_are_documented_and_have_defaults() -> None:
    from triggers.testing.crashes.options import CrashOptions, Options

    documented = inspect.getdoc(CrashOptions) or ""
    assert set(CrashOptions.__annotations__) == set(Options.__dataclass_fields__)
    for name in CrashOptions.__annotations__:
        assert f":ivar {name}:" in documented
