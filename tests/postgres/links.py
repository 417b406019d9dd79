"""One connection through a proxy: its two sockets, and what is forwarded between them."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from tests.postgres.messages import Framing, Message
from tests.postgres.traffic import CLIENT, SERVER, SIDES, How, Rule, Side, Traffic

#: Messages that the server answers with a ReadyForQuery: Query, Sync, FunctionCall.
_REQUESTS = {"Q", "S", "F"}
_READY = "Z"


class _Cut(Exception):
    """Ends the forwarding: the connection was cut."""


class End:
    """One of the two sockets of a connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # drained means that the kernel has it all

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def finish(self) -> None:
        """Close with a FIN; closing with unread data would send a RST, so read on until the other has closed too."""
        try:
            with suppress(OSError):
                self.writer.write_eof()
                while await self.reader.read(65536):
                    pass
        finally:
            self.writer.close()


class Link:
    """A client's connection, and the one to the server that was made for it."""

    def __init__(self, traffic: Traffic, client: End, server: End) -> None:
        self.cut_off = False
        self._traffic = traffic
        self._ends: dict[Side, End] = {CLIENT: client, SERVER: server}
        self._framing = Framing()
        self._requests = 0
        self._answers = -1  # a ReadyForQuery comes also before the first request
        self._swallow: tuple[Rule, int] | None = None  # withhold the answer of that number, then cut
        self._pumps: list[asyncio.Task[None]] = []
        self._closing: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Forward until the connection ends, at either side or by a cut."""
        self._pumps = [asyncio.create_task(self._pump(side), name=f"from the {side}") for side in SIDES]
        try:
            await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
            errors = [task.exception() for task in self._pumps if task.done() and not task.cancelled()]
            if not self.cut_off:
                how: How = "rst" if any(isinstance(error, OSError) for error in errors) else "fin"
                self.cut(how, how)
            await asyncio.gather(*self._pumps, *self._closing, return_exceptions=True)
        finally:
            for end in self._ends.values():
                end.writer.transport.abort()  # a task that is cancelled before its first step closes nothing
        for error in errors:
            if error is not None and not isinstance(error, OSError | _Cut):
                raise error

    def cut(self, client: How, server: How | None) -> None:
        """Cut, each side in its way; without one the server's side stays open, and hears no more."""
        self.cut_off = True
        for task in self._pumps:
            if task is not asyncio.current_task():
                task.cancel()
        ways: dict[Side, How | None] = {CLIENT: client, SERVER: server}
        for side, how in ways.items():
            if how == "rst":
                self._ends[side].reset()
            else:
                job = self._ends[side].finish() if how else self._keep(side)
                self._closing.append(asyncio.create_task(job, name=f"closing at the {side}"))

    async def _keep(self, side: Side) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self._ends[side].reset()

    async def _pump(self, side: Side) -> None:
        cut_up, forward = {
            CLIENT: (self._framing.client, self._from_client),
            SERVER: (self._framing.server, self._from_server),
        }[side]
        while data := await self._ends[side].reader.read(65536):
            for message in cut_up(data):
                await self._traffic.pass_gate(side)
                await forward(message)

    async def _from_client(self, message: Message) -> None:
        rule = self._traffic.match(CLIENT, message)
        if rule is not None and rule.act == "before":
            self._apply(rule)
        self._requests += message.kind in _REQUESTS
        if rule is not None and rule.act == "answered":
            self._swallow = rule, self._requests + (message.kind not in _REQUESTS)
        await self._send(CLIENT, message.data)
        if rule is not None and rule.act == "after":
            self._apply(rule)

    async def _from_server(self, message: Message) -> None:
        rule = self._traffic.match(SERVER, message)
        if rule is not None and rule.act == "before":
            self._apply(rule)
        withheld = self._swallow is not None and self._answers == self._swallow[1] - 1
        self._answers += message.kind == _READY
        if self._swallow is not None and self._answers == self._swallow[1]:
            self._apply(self._swallow[0])
        if not withheld:
            await self._send(SERVER, message.data)
        if rule is not None:
            self._apply(rule)

    async def _send(self, side: Side, data: bytes) -> None:
        end = self._ends[SERVER if side == CLIENT else CLIENT]
        rule = self._traffic.limit(side)
        if rule is None or rule.size is None:
            await end.send(data)
            return
        now = data[: rule.size]
        rule.size -= len(now)
        if rule.size == 0:
            self._traffic.rules.remove(rule)
        await end.send(now)
        if rule.size == 0:
            self._apply(rule)

    def _apply(self, rule: Rule) -> None:
        self.cut(rule.how, "fin")  # after a RST a server may never read what is on its way
        rule.fire()
        raise _Cut
