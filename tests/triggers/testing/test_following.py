from __future__ import annotations

import datetime
import datetime as whole
import time
import time as clock
from datetime import UTC
from datetime import datetime as kind
from time import monotonic, time_ns

import pytest

from triggers.testing import VirtualClock, follow_time


def test_every_way_to_import_the_time_follows_and_comes_back() -> None:
    virtual = VirtualClock(kind(2030, 1, 1, tzinfo=UTC))
    names = dict(globals())
    with follow_time(virtual, __name__, "no.such.module", __name__):
        virtual.pass_seconds(3600)
        assert monotonic() == time.monotonic() == clock.monotonic() == 3600
        assert time_ns() == clock.time_ns() == virtual.microseconds() * 1000
        assert clock.monotonic_ns() == 3600 * 10**9
        now = whole.datetime(2030, 1, 1, 1, tzinfo=UTC)
        assert kind.now(UTC) == datetime.datetime.now(UTC) == now == whole.datetime.fromtimestamp(time.time(), UTC)
        assert kind.utcnow() == now.replace(tzinfo=None)  # pyright: ignore[reportDeprecated]  # code that does it still
        assert kind.now() == kind.today() == whole.datetime.fromtimestamp(now.timestamp())
        assert isinstance(now, kind)
        assert whole.timedelta(hours=1) + kind(2030, 1, 1, tzinfo=UTC) == now
        assert clock.perf_counter() > 0
    assert dict(globals()) == names


def test_they_come_back_after_an_error() -> None:
    names = dict(globals())
    with pytest.raises(ZeroDivisionError), follow_time(VirtualClock(), __name__):
        raise ZeroDivisionError
    assert dict(globals()) == names
