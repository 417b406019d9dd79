"""Paths of objects: none escapes its folder, collides with another or is too long."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore

from asyncstore import TaskScope
from asyncstore.backends.objects.places import MAX_PATH, VALUE, Found, parse, reference_of, segment
from asyncstore.offload.abc import Place

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
#: What has a meaning on some file system, and what is near the limits.
AWKWARD = st.sampled_from(
    [
        "..",
        ".",
        "...",
        "/",
        "\\",
        "a/../b",
        "assets",
        "Assets",
        "%2F",
        "%61ssets",
        "~",
        "!",
        "é",
        "CON",
        "a.",
        " ",
        "#1",
    ]
)


def text(most: int) -> st.SearchStrategy[str]:
    long = st.integers(1, most).flatmap(lambda n: st.sampled_from(["a", "A", "/", "😀", "%"]).map(lambda c: c * n))
    any_text = st.text(CHARACTERS, min_size=1, max_size=most) | AWKWARD | long
    return any_text.filter(lambda each: 1 <= len(each.encode()) <= most)


def task_place(dag: str, run: str, task: str, index: int, key: str) -> Place:
    return Place("task", TaskScope(dag, run, task, index).ti_id, key)


def asset_place(name: str, key: str) -> Place:
    return Place("asset", name, key)


def stranger(owner: str, key: str) -> Place:
    return Place("task", owner, key)


tasks = st.builds(task_place, text(250), text(250), text(250), st.integers(-1, 2**31 - 1), text(512))
assets = st.builds(asset_place, text(1500), text(512))
strangers = st.builds(stranger, text(300), text(512))
places = tasks | assets | strangers


@given(places)
def test_a_path_stays_below_its_base_and_fits(place: Place) -> None:
    path = f"{reference_of(place)}/{'0' * 64}"
    assert len(path.encode()) <= MAX_PATH
    assert path.isascii()
    names = path.split("/")
    # A folder keeps a number behind a name while it is being written.
    assert all(0 < len(name) <= 255 - 16 and name.strip(".") and "\\" not in name and "#" not in name for name in names)
    assert PurePosixPath("/base", path).relative_to("/base").parts == tuple(names)


@given(places, places)
def test_two_places_share_no_path_and_no_path_is_a_folder_of_another(one: Place, other: Place) -> None:
    first, second = reference_of(one), reference_of(other)
    assert (first == second) == (one == other)
    for name in (VALUE, "0" * 64):
        assert not f"{second}/".startswith(f"{first}/{name}/")


@given(text(512), text(512))
def test_segments_are_as_different_as_their_texts(one: str, other: str) -> None:
    assert (segment(one) == segment(other)) == (one == other)


@given(places)
def test_a_path_says_what_it_belongs_to_unless_it_was_cut(place: Place) -> None:
    at = reference_of(place)
    found = parse(f"{at}/{VALUE}")
    assert found == Found(at, VALUE, None if "!" in at.removeprefix("!tasks") else place)


@pytest.mark.parametrize("path", ["a", "a/b/c", "assets/a/b/c/d", "a/b/c/-1/key", "!asyncstore", "a/b/c/d/e/f/g"])
def test_other_paths_are_none_of_ours(path: str) -> None:
    assert parse(path) is None


def test_the_canonical_id_is_the_folder() -> None:
    scope = TaskScope("my dag", "2026-01-01T00:00", "täsk", 3)
    assert reference_of(Place("task", scope.ti_id, "k")) == f"{scope.ti_id}/k"
    assert reference_of(Place("task", "abc-123", "k")) == "!tasks/abc-123/k"
    assert reference_of(Place("asset", "s3://orders", "k/1")) == "assets/s3%3A%2F%2Forders/k%2F1"


@given(tasks | assets)
def test_the_client_takes_each_path_as_it_is(place: Place) -> None:
    import tempfile

    import obstore

    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder, mkdir=True)
        path = f"{reference_of(place)}/{'0' * 64}"
        obstore.put(store, path, b"x")
        assert [str(each.relative_to(folder)) for each in Path(folder).rglob("*") if each.is_file()] == [path]
