from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore import Asset, AssetScope, TaskScope
from asyncstore.scopes import check_key, check_text

ALLOWED = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
IDS = st.text(ALLOWED, min_size=1).filter(lambda text: len(text.encode()) <= 250)
TRICKY = st.sampled_from(
    [".", "..", "...", "/", "//", "a/b", "%2E", "%2F", "%", "assets", "%61ssets", "Assets", "-1", "~", "\\", ":", " "]
)
SCOPES = st.builds(TaskScope, IDS | TRICKY, IDS | TRICKY, IDS | TRICKY, st.integers(-1, 2**31 - 1))

REFUSED: list[tuple[Any, type[Exception], str]] = [
    ("", ValueError, "must be 1 to {limit} bytes of UTF-8, not 0"),
    ("a\0b", ValueError, "holds a NUL character"),
    ("\0", ValueError, "holds a NUL character"),
    ("a\ud800", ValueError, "holds a lone surrogate, which is no Unicode text; percent-encode"),
    ("\udfff", ValueError, "holds a lone surrogate"),
    (None, TypeError, "must be a string, not NoneType"),
    (1, TypeError, "must be a string, not int"),
    (b"x", TypeError, "must be a string, not bytes"),
    (["x"], TypeError, "must be a string, not list"),
]


# Keys.


@given(st.text(ALLOWED, min_size=1))
def test_keys_are_1_to_512_bytes(text: str) -> None:
    key = text
    while len(key.encode()) > 512:
        key = key[:-1]
    check_key(key)
    longest = key + "x" * (512 - len(key.encode()))
    check_key(longest)
    with pytest.raises(ValueError, match="key must be 1 to 512 bytes of UTF-8, not 513"):
        check_key(longest + "x")


@pytest.mark.parametrize("char", ["x", "ü", "€", "🦆"])
@pytest.mark.parametrize("limit", [250, 512, 1500])
def test_limits_count_bytes(char: str, limit: int) -> None:
    size = len(char.encode())
    text = char * (limit // size)
    text += "x" * (limit - len(text.encode()))
    check_text(text, "it", limit)
    with pytest.raises(ValueError, match=f"it must be 1 to {limit} bytes of UTF-8, not {limit + size}"):
        check_text(text + char, "it", limit)


@pytest.mark.parametrize(("value", "error", "text"), REFUSED)
def test_what_is_no_key(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="key.*" + text.format(limit=512)):
        check_key(value)


@given(ALLOWED)
def test_every_character_may_be_in_a_key(char: str) -> None:
    check_key(char)


# Task instances.


@pytest.mark.parametrize("part", ["dag_id", "run_id", "task_id"])
def test_parts_of_a_task_scope(part: str) -> None:
    def scope(text: Any) -> TaskScope:
        parts: dict[str, Any] = {"dag_id": "d", "run_id": "r", "task_id": "t", part: text}
        return TaskScope(**parts)

    assert getattr(scope("x" * 250), part) == "x" * 250
    with pytest.raises(ValueError, match=f"{part} must be 1 to 250 bytes of UTF-8, not 252"):
        scope("🦆" * 63)
    for value, error, text in REFUSED:
        with pytest.raises(error, match=f"{part}.*{text.format(limit=250)}"):
            scope(value)


@pytest.mark.parametrize("map_index", [-1, 0, 1, 2**31 - 1])
def test_a_map_index(map_index: int) -> None:
    assert TaskScope("d", "r", "t", map_index).map_index == map_index


@pytest.mark.parametrize("map_index", [-2, -(2**31), 2**31, 2**70])
def test_a_map_index_out_of_range(map_index: int) -> None:
    with pytest.raises(ValueError, match=r"map_index must be -1 \(not mapped\) or a 32-bit index from 0, not"):
        TaskScope("d", "r", "t", map_index)


@pytest.mark.parametrize("map_index", [True, 1.0, "1", None])
def test_a_map_index_of_another_type(map_index: Any) -> None:
    with pytest.raises(TypeError, match="map_index must be an int, not"):
        TaskScope("d", "r", "t", map_index)


def test_a_task_scope_is_frozen_and_hashable() -> None:
    scope = TaskScope("d", "r", "t")
    assert scope == TaskScope("d", "r", "t", -1)
    assert len({scope, TaskScope("d", "r", "t"), TaskScope("d", "r", "t", 0)}) == 2
    assert pickle.loads(pickle.dumps(scope)) == copy.deepcopy(scope) == scope
    with pytest.raises(FrozenInstanceError):
        scope.dag_id = "other"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        scope.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("scope", "ti_id"),
    [
        (TaskScope("dag", "run", "task"), "dag/run/task/-1"),
        (TaskScope("dag", "run", "task", 7), "dag/run/task/7"),
        (TaskScope("a/b", "2026-01-01T00:00:00+00:00", "x y"), "a%2Fb/2026-01-01T00%3A00%3A00%2B00%3A00/x%20y/-1"),
        (TaskScope(".", "..", "..."), "%2E/%2E%2E/%2E%2E%2E/-1"),
        (TaskScope(".a", "b.", "a.b"), ".a/b./a.b/-1"),
        (TaskScope("assets", "assets", "assets"), "%61ssets/assets/assets/-1"),
        (TaskScope("%61ssets", "%2E", "%"), "%2561ssets/%252E/%25/-1"),
        (TaskScope("ü", "🦆", "\\"), "%C3%BC/%F0%9F%A6%86/%5C/-1"),
    ],
    ids=str,
)
def test_the_canonical_id(scope: TaskScope, ti_id: str) -> None:
    assert scope.ti_id == ti_id
    assert str(scope) == f"task {ti_id}"


@given(SCOPES)
def test_the_canonical_id_tells_what_it_was_made_of(scope: TaskScope) -> None:
    dag, run, task, index = scope.ti_id.split("/")
    assert TaskScope(unquote(dag), unquote(run), unquote(task), int(index)) == scope


@given(SCOPES, SCOPES)
def test_no_two_task_instances_share_an_id(one: TaskScope, other: TaskScope) -> None:
    assert (one.ti_id == other.ti_id) == (one == other)


@given(st.lists(TRICKY | IDS, min_size=6, max_size=6))
def test_no_two_task_instances_share_an_id_however_their_parts_are_cut(parts: list[str]) -> None:
    joined = "/".join(parts)
    scopes = {
        TaskScope(joined[:cut] or "x", joined[cut:] or "x", "t")
        for cut in range(min(len(joined), 200), 0, -7)
        if len(joined[:cut].encode()) <= 250 and 0 < len(joined[cut:].encode()) <= 250
    }
    assert len({scope.ti_id for scope in scopes}) == len(scopes)


@given(SCOPES)
def test_the_canonical_id_is_a_safe_relative_path(scope: TaskScope) -> None:
    path = PurePosixPath(scope.ti_id)
    assert not path.is_absolute()
    assert not PureWindowsPath(scope.ti_id).drive
    assert len(path.parts) == 4
    assert str(path) == scope.ti_id  # nothing was collapsed: no empty part, no `.`
    assert not {"", ".", ".."} & set(path.parts)
    assert path.parts[0] != "assets"
    assert scope.ti_id.isascii()
    assert scope.ti_id.isprintable()
    assert not set('\\:*?"<>|') & set(scope.ti_id)


# Assets.


def test_an_asset_scope_needs_something() -> None:
    with pytest.raises(ValueError, match="needs an asset_id, a name or a uri"):
        AssetScope()
    assert AssetScope(1) != AssetScope(2)
    assert AssetScope(name="a") == AssetScope(name="a")
    assert len({AssetScope(1), AssetScope(1), AssetScope(name="a"), AssetScope(uri="a")}) == 3
    assert pickle.loads(pickle.dumps(AssetScope(1, "a", "b"))) == AssetScope(1, "a", "b")
    with pytest.raises(FrozenInstanceError):
        AssetScope(1).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("asset_id", [0, -1, 2**63, -(2**70)])
def test_an_asset_id_out_of_range(asset_id: int) -> None:
    with pytest.raises(ValueError, match="asset_id must be a positive 64-bit integer"):
        AssetScope(asset_id)
    assert AssetScope(2**63 - 1).asset_id == 2**63 - 1


@pytest.mark.parametrize("asset_id", [True, 1.0, "1"])
def test_an_asset_id_of_another_type(asset_id: Any) -> None:
    with pytest.raises(TypeError, match="asset_id must be an int"):
        AssetScope(asset_id)


@pytest.mark.parametrize("part", ["name", "uri"])
@pytest.mark.parametrize("kind", [Asset, AssetScope])
def test_names_and_uris_are_up_to_1500_bytes(part: str, kind: Any) -> None:
    assert getattr(kind(**{part: "ü" * 750}), part) == "ü" * 750
    with pytest.raises(ValueError, match=f"asset {part} must be 1 to 1500 bytes of UTF-8, not 1501"):
        kind(**{part: "x" + "ü" * 750})
    for value, error, text in REFUSED:
        if value is not None:
            with pytest.raises(error, match=f"asset {part}.*{text.format(limit=1500)}"):
                kind(**{part: value})


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        (AssetScope(1, "orders", "s3://bucket"), "asset 'orders'"),
        (AssetScope(1, uri="s3://bucket"), "asset with uri 's3://bucket'"),
        (AssetScope(1), "asset with id 1"),
    ],
)
def test_how_an_asset_scope_reads(scope: AssetScope, text: str) -> None:
    assert str(scope) == text


def test_name_and_uri_default_to_each_other() -> None:
    both = Asset("orders", "s3://bucket/orders")
    assert (both.name, both.uri, both.explicit_name, both.explicit_uri) == ("orders", "s3://bucket/orders") * 2
    name = Asset("orders")
    assert (name.name, name.uri, name.explicit_name, name.explicit_uri) == ("orders", "orders", "orders", None)
    uri = Asset(uri="s3://bucket")
    assert (uri.name, uri.uri, uri.explicit_name, uri.explicit_uri) == (
        "s3://bucket",
        "s3://bucket",
        None,
        "s3://bucket",
    )
    with pytest.raises(ValueError, match="needs a name or a uri"):
        Asset()
    assert repr(both) == "Asset('orders', uri='s3://bucket/orders')"
    assert repr(name) == "Asset('orders')"
    assert repr(uri) == "Asset(uri='s3://bucket')"


NAMES = st.text(ALLOWED, min_size=1, max_size=5)


@given(NAMES, NAMES | st.none(), NAMES, NAMES | st.none())
def test_assets_with_the_same_name_are_the_same(name: str, uri: str | None, other: str, other_uri: str | None) -> None:
    one, two = Asset(name, uri), Asset(other, other_uri, group="another", extra={"a": 1})
    assert (one == two) == (name == other)
    same = Asset(name, other_uri)
    assert one == same
    assert hash(one) == hash(same)
    assert {one: 1}[same] == 1


@dataclass(frozen=True)
class Watcher:
    name: str


def test_an_asset_is_immutable() -> None:
    extra: dict[str, Any] = {"owner": "me"}
    asset = Asset("orders", extra=extra, watchers=[Watcher("a"), Watcher("b")])
    extra["owner"] = "you"
    assert asset.extra_json == '{"owner":"me"}'
    assert asset.watchers == (Watcher("a"), Watcher("b"))
    with pytest.raises(AttributeError, match="an Asset is immutable; build a new one to change 'group'"):
        asset.group = "other"
    with pytest.raises(AttributeError, match="immutable"):
        del asset.group
    assert asset != "orders"
    for copied in (copy.copy(asset), copy.deepcopy(asset), pickle.loads(pickle.dumps(asset))):
        assert copied == asset
        assert (copied.extra_json, copied.watchers, copied.group) == (asset.extra_json, asset.watchers, asset.group)
    assert copy.copy(Asset(uri="u")).explicit_name is None


def test_what_is_no_asset() -> None:
    with pytest.raises(ValueError, match="two watchers of one asset are named 'a'; a watcher's name is its identity"):
        Asset("orders", watchers=[Watcher("a"), Watcher("b"), Watcher("a")])
    with pytest.raises(ValueError, match="asset group must be 1 to 1500 bytes"):
        Asset("orders", group="")
    with pytest.raises(TypeError, match=r"value\['at'\] is a set"):
        Asset("orders", extra={"at": {1}})  # type: ignore[dict-item]
