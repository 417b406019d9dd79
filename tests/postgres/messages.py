"""The messages that a connection to PostgreSQL is made of, as far as a proxy must know them.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_REQUESTS = {80877102: "cancel", 80877103: "ssl", 80877104: "gss"}


class Message(NamedTuple):
    """A whole message: its type is a letter, or a word where the protocol has none."""

    kind: str
    data: bytes


class Framing:
    """Both directions of one connection, cut into whole messages, or `opaque` pieces once it is encrypted."""

    def __init__(self) -> None:
        self._from_client = b""
        self._from_server = b""
        self._started = False  # the client has sent what opens a session: all that follows has a type
        self._asked = 0  # offers to encrypt that the server has yet to answer, with a byte each
        self._opaque = False

    def client(self, data: bytes) -> list[Message]:
        """Take what the client sent, and give the messages that are complete now."""
        self._from_client += data
        found: list[Message] = []
        while self._from_client:
            if self._opaque:
                found.append(Message("opaque", self._from_client))
                self._from_client = b""
                break
            head = 1 if self._started else 0
            size = self._size(self._from_client, head)
            if size is None:
                break
            whole, self._from_client = self._from_client[:size], self._from_client[size:]
            found.append(Message(chr(whole[0]) if head else self._opening(whole), whole))
        return found

    def server(self, data: bytes) -> list[Message]:
        """Take what the server sent, and give the messages that are complete now."""
        self._from_server += data
        found: list[Message] = []
        while self._from_server:
            if self._opaque:
                found.append(Message("opaque", self._from_server))
                self._from_server = b""
                break
            if self._asked:
                answer, self._from_server = self._from_server[:1], self._from_server[1:]
                self._asked -= 1
                self._opaque = answer in {b"S", b"G"}
                found.append(Message("encryption", answer))
                continue
            size = self._size(self._from_server, 1)
            if size is None:
                break
            whole, self._from_server = self._from_server[:size], self._from_server[size:]
            found.append(Message(chr(whole[0]), whole))
        return found

    def _opening(self, whole: bytes) -> str:
        kind = _REQUESTS.get(struct.unpack_from("!I", whole, 4)[0], "startup")
        if kind == "startup":
            self._started = True
        elif kind != "cancel":
            self._asked += 1
        return kind

    @staticmethod
    def _size(data: bytes, head: int) -> int | None:
        if len(data) < head + 4:
            return None
        size = head + int(struct.unpack_from("!I", data, head)[0])
        return size if len(data) >= size else None
