"""A TCP proxy that cuts, stalls and refuses connections to PostgreSQL, at a place that a test chooses.

It runs in a thread of its own, so that it forwards also while the test's event loop is blocked. All controls are sync,
and may be called from any thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Self, TypeVar

from sqlalchemy.engine import make_url

from tests.postgres.client import LoopThread
from tests.postgres.links import End, Link
from tests.postgres.processes import PATIENCE, until
from tests.postgres.traffic import SIDES, Act, How, Rule, Side, Traffic

T = TypeVar("T")

HOST = "127.0.0.1"


class Proxy:
    """Forwards connections to a server, until told otherwise; `async with` (or `with`) runs it.

    Types of messages are the letters of the protocol (a client's `Q` Query, `P` Parse, `B` Bind, `E` Execute, `S` Sync,
    a server's `C` CommandComplete, `D` DataRow, `Z` ReadyForQuery), or `startup`, `ssl` and `cancel`.
    """

    def __init__(self, target_host: str, target_port: int, *, user: str = "postgres") -> None:
        self._target = (target_host, target_port)
        self._user = user
        self._links: set[Link] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._server: asyncio.Server | None = None

    @classmethod
    def to(cls, url: str) -> Self:
        """Make a proxy for the server of a URL; `through` gives the URL to use instead."""
        place = make_url(url)
        assert place.host is not None, url
        return cls(place.host, place.port or 5432, user=place.username or "postgres")

    def point(self, port: int) -> None:
        """Lead those who connect from now on to another server of this machine."""
        self._target = (HOST, port)

    def __enter__(self) -> Self:
        self._thread = LoopThread("proxy")
        self._traffic = Traffic()
        self._socket = self._bind(0)
        self.port: int = self._socket.getsockname()[1]
        self.accept()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.run(self._end())
        self._thread.close()
        self._socket.close()
        if self._errors:
            raise self._errors[0]

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)

    def url(self, database: str) -> str:
        """Give the URL of a database by this way, without a password."""
        return f"postgresql+asyncpg://{self._user}@{HOST}:{self.port}/{database}"

    def through(self, url: str) -> str:
        """Lead a URL by this way."""
        return make_url(url).set(host=HOST, port=self.port).render_as_string(hide_password=False)

    @property
    def connections(self) -> int:
        """How many connections are open and not cut."""
        return self._call(lambda: sum(not link.cut_off for link in self._links))

    def wait_connections(self, count: int, patience: float = PATIENCE) -> None:
        """Wait until so many connections are open; blocks."""
        until(lambda: self.connections == count, f"{count} connections", patience=patience)

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._thread.run(self._refuse())

    def accept(self) -> None:
        """Take new connections again."""
        self._thread.run(self._accept())

    def stall(self, *sides: Side) -> None:
        """Forward nothing more that these sides send, or both, of new connections too; nobody is told."""
        for side in sides or SIDES:
            self._call(partial(self._traffic.shut, side))

    def resume(self, *sides: Side) -> None:
        """Forward what was held back, and go on."""
        for side in sides or SIDES:
            self._call(partial(self._traffic.open, side))

    def wait_held(self, side: Side, patience: float = PATIENCE) -> None:
        """Wait until a message of a stalled side is held back; blocks."""
        until(lambda: self._traffic.held[side], f"a message of the {side}", patience=patience)

    def cut(self, how: How = "rst", *, keep_server: bool = False) -> int:
        """Cut all connections; gives how many.

        :param how: What both sides get, a RST or a FIN.
        :param keep_server: Leave the server in the belief that its client is there, as when a network is torn.
        """
        return self._call(lambda: self._cut(how, keep_server=keep_server))

    def cut_before(
        self, kind: str = "", *, containing: bytes = b"", nth: int = 1, side: Side = "client", how: How = "rst"
    ) -> Rule:
        """Cut instead of forwarding the n-th message of that type (any, if empty) that holds those bytes.

        Rules count the messages of all connections from now on, and act once. `how` is what the client gets; the server
        gets a FIN.
        """
        return self._arm("before", side, how, kind=kind, containing=containing, nth=nth)

    def cut_after(
        self, kind: str = "", *, containing: bytes = b"", nth: int = 1, side: Side = "client", how: How = "rst"
    ) -> Rule:
        """Cut right after forwarding a message; the server reads what it got of the client before it sees the end."""
        return self._arm("after", side, how, kind=kind, containing=containing, nth=nth)

    def swallow_answer(self, kind: str = "", *, containing: bytes = b"", nth: int = 1, how: How = "rst") -> Rule:
        """Forward a message of the client, wait until the server is done with it, and cut instead of saying so."""
        return self._arm("answered", "client", how, kind=kind, containing=containing, nth=nth)

    def cut_after_bytes(self, size: int, *, side: Side = "client", how: How = "rst") -> Rule:
        """Cut after forwarding so many more bytes of a side, be it within a message."""
        assert size > 0, "no byte, no cut: use cut"
        return self._arm("after", side, how, size=size)

    def clear(self) -> None:
        """Forget the rules that did not act yet."""
        self._call(self._traffic.rules.clear)

    def _arm(
        self,
        act: Act,
        side: Side,
        how: How,
        *,
        kind: str = "",
        containing: bytes = b"",
        nth: int = 1,
        size: int | None = None,
    ) -> Rule:
        rule = Rule(act, side, how, kind=kind, containing=containing, nth=nth, size=size)
        self._call(lambda: self._traffic.rules.append(rule))
        return rule

    def _call(self, job: Callable[[], T]) -> T:
        async def run() -> T:
            return job()

        return self._thread.run(run())

    @staticmethod
    def _bind(port: int) -> socket.socket:
        """Hold a port; as long as nobody listens there, connections are refused."""
        # Asyncio turns off Nagle's algorithm for sockets that say they are TCP; it would cost 40 ms for each message.
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        return bound

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._take, sock=self._socket)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the socket is closed in the next turn
            self._socket = self._bind(self.port)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(End(reader, writer)), name="a connection through the proxy")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also if it never came to run

    async def _connect(self, client: End) -> None:
        try:
            server = End(*await asyncio.open_connection(*self._target))
        except OSError:
            client.reset()
            return
        link = Link(self._traffic, client, server)
        self._links.add(link)
        try:
            await link.run()
        except Exception as error:
            self._errors.append(error)  # told in the end
        finally:
            self._links.discard(link)

    def _cut(self, how: How, *, keep_server: bool) -> int:
        links = [link for link in self._links if not link.cut_off]
        for link in links:
            link.cut(how, None if keep_server else how)
        return len(links)

    async def _end(self) -> None:
        await self._refuse()
        for _ in range(3):
            await asyncio.sleep(0)  # what the loop has accepted comes to `_take`
        self._cut("rst", keep_server=False)
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
