"""What a URL may say, and what is said of one that is wrong."""

from __future__ import annotations

import traceback

import pytest
from sqlalchemy.engine import make_url

from asyncstore import (
    ConfigurationError,
    StoreError,
)
from tests.postgres.databases import Databases
from tests.postgres.opening import HALVES, SECRET, connected_store, refused, works
from tests.postgres.server import HOST, free_port
from tests.postgres.store_support import TASK

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (f"me:{SECRET}@{HOST}:port/app", ["host:5432"]),
        (f"me:{SECRET}@{HOST}:99999/app", ["host:5432"]),
        (f"me:{SECRET}@[::1/app", []),
        (f"me:{SECRET}@one:1,two:2:3/app", []),
        (f"me:{SECRET}@/app?host=one,two&port=1,2,3", ["3 port", "2 hosts"]),
        (f"me:{SECRET}@{HOST}/app?sslmode=perhaps", ["sslmode", "verify-full"]),
        (f"me:{SECRET}@{HOST}/app?ssl=true", ["sslmode", "verify-full"]),
        (f"me:{SECRET}@{HOST}/app?target_session_attrs=best", ["target_session_attrs", "'best'", "prefer-standby"]),
        (f"me:{SECRET}@{HOST}/app%00", ["NUL"]),
    ],
)
async def test_a_url_that_is_wrong(rest: str, words: list[str]) -> None:
    await refused(f"postgresql+asyncpg://{rest}", ConfigurationError, "[database] url", *words)


@pytest.mark.parametrize("kind", ["postgresql+psycopg", "mysql"])
async def test_another_driver(kind: str) -> None:
    await refused(f"{kind}://me:{SECRET}@{HOST}/app", ConfigurationError, repr(kind), "postgresql+asyncpg://")


async def test_an_option_that_nobody_knows(database_url: str) -> None:
    await refused(f"{database_url}?colour=blue", ConfigurationError, "[database] url", "colour")


@pytest.mark.parametrize("sign", ["#", "/", "?", "@", "%", ":"])
@pytest.mark.parametrize("start", ["", "12"], ids=["letters", "digits"])
async def test_a_password_that_is_not_quoted_is_not_told(sign: str, start: str) -> None:
    url = f"postgresql+asyncpg://me:{start or HALVES[0]}{sign}{HALVES[1]}@{HOST}:{free_port()}/app"
    with pytest.raises(StoreError) as caught:  # whichever: the address may still be one
        await works(url, operation_timeout=0.1)
    whole = "".join(traceback.format_exception(caught.value))
    assert not any(half in whole for half in HALVES)


async def test_options_that_are_taken(postgres: Databases, database_url: str) -> None:
    async with connected_store(f"{database_url}?application_name=mine&options=-cwork_mem%3D8MB") as store:
        await store.task_state(TASK).aset("key", 1)
        found = postgres.connections(str(make_url(database_url).database))
        assert all("mine" in each for each in found)
        assert found


@pytest.mark.parametrize("option", ["connect_timeout", "keepalives", "channel_binding", "gssencmode"])
async def test_an_option_that_cannot_be_heeded_is_not_passed_over(option: str, database_url: str) -> None:
    await refused(f"{database_url}?{option}=1", ConfigurationError, "[database] url", option)
