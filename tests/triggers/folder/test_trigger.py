from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import pytest

from asyncstore import Asset, Store, connect
from triggers import AssetWatcher, FolderTrigger, Triggerer

from ..support import QUICK, Recorder, run_to_the_end, until

pytestmark = pytest.mark.anyio

OLD = 1_000_000_000  # 2001


@pytest.fixture
async def store(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Store]:
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/asyncstore.db", settings=QUICK) as store:
        yield store


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def asset(folder: Path, **options: Any) -> Asset:
    given: dict[str, Any] = {"once": True, "settle": 0.0, "interval": 0.001, **options}
    return Asset("inbox", watchers=[AssetWatcher("files", FolderTrigger(str(folder), **given))])


def write(path: Path, text: str = "x", at: float = OLD) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


async def paths(store: Store, folder: Path, **options: Any) -> list[str]:
    return [payload["path"] for payload in (await run_to_the_end(store, asset(folder, **options))).payloads]


async def test_every_version_of_a_file_gives_one_event(store: Store, inbox: Path) -> None:
    write(inbox / "a", "one", OLD)
    write(inbox / "b", "two", OLD + 1)
    recorder = await run_to_the_end(store, asset(inbox))
    assert recorder.payloads == [
        {"path": "a", "size": 3, "mtime_ns": OLD * 10**9, "modified": "2001-09-09T01:46:40+00:00"},
        {"path": "b", "size": 3, "mtime_ns": (OLD + 1) * 10**9, "modified": "2001-09-09T01:46:41+00:00"},
    ]
    assert await paths(store, inbox) == []
    write(inbox / "a", "ONE", OLD + 2)
    write(inbox / "b", "two more", OLD + 1)
    write(inbox / "moved in with an old date", at=1)
    assert sorted(await paths(store, inbox)) == ["a", "b", "moved in with an old date"]
    assert len(await store.events(Asset("inbox")).alist()) == 5


async def test_a_file_that_went_is_forgotten_and_its_old_version_is_not_told_again(store: Store, inbox: Path) -> None:
    write(inbox / "a")
    assert await paths(store, inbox) == ["a"]
    (inbox / "a").unlink()
    assert await paths(store, inbox) == []
    assert await store.asset_state[Asset("inbox")].akeys() == []
    write(inbox / "a")
    assert await paths(store, inbox) == []  # the very version that was told
    write(inbox / "a", "new")
    assert await paths(store, inbox) == ["a"]


async def test_created_only_tells_the_first_version_of_a_path(store: Store, inbox: Path) -> None:
    write(inbox / "a")
    assert await paths(store, inbox, created_only=True) == ["a"]
    write(inbox / "a", "changed")
    write(inbox / "b")
    assert await paths(store, inbox, created_only=True) == ["b"]


async def test_new_only_leaves_out_what_was_there_at_the_first_start(store: Store, inbox: Path) -> None:
    write(inbox / "old")
    assert await paths(store, inbox, new_only=True) == []
    write(inbox / "while it was down")
    assert await paths(store, inbox, new_only=True) == ["while it was down"]
    write(inbox / "old", "changed")
    assert await paths(store, inbox, new_only=True) == ["old"]


async def test_pattern_and_recursive_and_exclude(store: Store, inbox: Path) -> None:
    for name in ("a.csv", "b.txt", "sub/c.csv", "left/out.csv"):
        write(inbox / name)
    options = {"pattern": "*.csv", "recursive": True, "exclude": [str(inbox / "left")]}
    assert await paths(store, inbox, **options) == ["a.csv", "sub/c.csv"]


async def test_two_watchers_of_one_folder_keep_their_own_memory(store: Store, inbox: Path) -> None:
    write(inbox / "a.csv")
    write(inbox / "b.txt")
    triggers = [
        FolderTrigger(str(inbox), once=True, settle=0, interval=0.001, pattern=f"*.{kind}", memory=kind)
        for kind in ("csv", "txt")
    ]
    both = Asset("inbox", watchers=[AssetWatcher(f"w{index}", each) for index, each in enumerate(triggers)])
    for expected in (["a.csv", "b.txt"], []):
        recorder = await run_to_the_end(store, both)
        assert sorted(payload["path"] for payload in recorder.payloads) == expected


@pytest.mark.parametrize("name", [b"bad\xff\xfename", b"two\nlines", "grüße 👋".encode(), b"%41", b"n" * 255])
async def test_any_name_comes_through(store: Store, inbox: Path, name: bytes) -> None:
    with open(os.path.join(os.fsencode(inbox), name), "wb"):
        pass
    recorder = await run_to_the_end(store, asset(inbox))
    payload = recorder.payloads[0]
    told = payload["path"]
    assert (unquote_to_bytes(told) if payload.get("path_encoding") == "percent" else told.encode()) == name
    assert await paths(store, inbox) == []


async def test_a_folder_that_is_not_utf_8_is_named_by_uri(store: Store, inbox: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(inbox) + b"/\xff"))
    write(folder / "a")
    recorder = await run_to_the_end(
        store, Asset("x", watchers=[AssetWatcher("w", FolderTrigger(folder.as_uri(), once=True, settle=0))])
    )
    assert recorder.payloads[0]["path"] == "a"


async def test_a_growing_file_is_told_when_it_is_complete(store: Store, inbox: Path) -> None:
    recorder = Recorder()
    triggerer = Triggerer(store, [asset(inbox, once=False, settle=0.05)], on_event=recorder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        for size in range(1, 40):
            write(inbox / "growing", "x" * size, OLD + size)
            await anyio.sleep(0.003)
        await until(lambda: bool(recorder.events))
        triggerer.stop()
    assert [payload["size"] for payload in recorder.payloads] == [39]


async def test_a_folder_that_goes_and_comes_back(store: Store, inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triggers")
    write(inbox / "a")
    recorder = Recorder()
    triggerer = Triggerer(store, [asset(inbox, once=False)], on_event=recorder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        await until(lambda: len(recorder.events) == 1)
        inbox.rename(inbox.with_name("away"))
        await until(lambda: "No such file or directory" in caplog.text)
        inbox.with_name("away").rename(inbox)
        write(inbox / "b")
        await until(lambda: len(recorder.events) == 2)
        triggerer.stop()
    assert [payload["path"] for payload in recorder.payloads] == ["a", "b"]
    assert caplog.text.count("No such file or directory") == 1
    assert "can be read again" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"settle": -1}, "settle"),
        ({"interval": 0}, "interval"),
        ({"exclude": ["file://elsewhere/x"]}, "another machine"),
    ],
)
def test_bad_options_are_refused_at_once(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FolderTrigger(str(tmp_path), **options)
