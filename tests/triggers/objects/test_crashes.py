"""The bucket watcher under crashes at every await, on a bucket that changes while nobody watches."""

from __future__ import annotations

from typing import Any

import obstore
import pytest

from asyncstore.backends.objects.connections import open_client, parse_url
from triggers import ObjectStoreTrigger
from triggers.testing import crash_everywhere_sync

URL = "memory://watched/inbox"


@pytest.mark.parametrize("options", [{"once": True}, {}, {"ordered": True}])
def test_every_version_that_stays_is_told_once(options: dict[str, Any]) -> None:
    client = open_client(parse_url(URL))

    def begin() -> None:
        found: list[Any] = list(obstore.list(client).collect())  # pyright: ignore[reportUnknownMemberType]
        for each in found:
            obstore.delete(client, each["path"])
        for number in range(4):
            obstore.put(client, f"file {number}", b"x" * number)

    def change() -> None:
        obstore.put(client, "new", b"12345")
        obstore.delete(client, "file 3")

    report = crash_everywhere_sync(
        lambda: ObjectStoreTrigger(URL, **options),
        source=begin,
        between=change,
        ordered=False,
        identify=lambda payload: payload["path"],
        expected=[{"path": path} for path in ("file 0", "file 1", "file 2", "new")],
        optional=[{"path": "file 3"}],
    )
    report.check()
    assert len(report.points) > 15
