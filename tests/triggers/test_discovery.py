from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triggers import DiscoveryError, load_assets

MODULE = """
from asyncstore import Asset
from triggers import AssetWatcher, BaseEventTrigger, TriggerEvent

class Once(BaseEventTrigger):
    async def run(self):
        yield TriggerEvent("once")

plain = Asset("plain")
orders = Asset("orders", watchers=[AssetWatcher("w", Once())])
same = orders
more = [Asset("a", watchers=[AssetWatcher("w", Once())])]
mapped = {"b": Asset("b", watchers=[AssetWatcher("w", Once())])}
"""


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["my_assets", "my_assets.py", "./my_assets.py"])
def test_assets_with_watchers_are_found_in_modules_and_files(tmp_path: Path, target: str) -> None:
    (tmp_path / "my_assets.py").write_text(MODULE)
    assert [asset.name for asset in load_assets(target)] == ["orders", "a", "b"]


def test_a_package_is_found_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/__init__.py").touch()
    (tmp_path / "mypackage/assets.py").write_text(MODULE)
    assert len(load_assets("mypackage.assets")) == 3


def test_a_file_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/neighbour.py").write_text("NAME = 'orders'")
    (tmp_path / "sub/assets_here.py").write_text(MODULE.replace('"orders"', "__import__('neighbour').NAME"))
    assert load_assets("sub/assets_here.py")[0].name == "orders"


def test_a_file_named_like_a_module_in_use_does_not_replace_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(MODULE)
    json = sys.modules["json"]
    assert load_assets("json.py")[0].name == "orders"
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "text", "says"),
    [
        ("missing_module", None, "missing_module cannot be imported: ModuleNotFoundError"),
        ("missing.py", None, "missing.py is no file"),
        ("broken.py", "x = (", "broken.py cannot be imported: SyntaxError"),
        ("failing.py", "x = 1\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*failing.py, line 2\)"),
        ("empty.py", "x = 1", r"no asset with a watcher \(assets found: none\)"),
        ("unwatched.py", "from asyncstore import Asset\na = Asset('plain')", r"assets found: 'plain'"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path: Path, target: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / target).write_text(text)
    with pytest.raises(DiscoveryError, match=says):
        load_assets(target)
