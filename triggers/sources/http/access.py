"""What a request shows to be let in: from the environment, when the watcher starts, and kept nowhere."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from asyncstore import ConfigurationError
from asyncstore.connections import connection_options, connection_variable

from .address import is_credential, origin, secrets_in, with_parameter

__all__ = ["Access", "check_headers", "open_access"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
#: What the watcher says itself.
_OURS = {
    *("accept-encoding", "if-none-match", "if-modified-since", "range", "host", "connection", "content-length"),
    *("transfer-encoding", "te", "upgrade"),
}
_OPTIONS = {"headers", "params", "token", "username", "password", "verify"}


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that cannot be sent, or hold a secret in the clear.

    :param headers: by name; `${NAME}` in a value stands for an environment variable.
    :raises ValueError: one is refused; shows no value.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or re.search(r"[\x00\r\n]", value):
            raise ValueError(f"header {name!r} cannot be sent: allowed is text without line breaks")
        if name.lower() in _OURS:
            raise ValueError(f"header {name!r} is the watcher's own business")
        if is_credential(name) and not _REFERENCE.search(value):
            raise ValueError(
                f"header {name!r} holds a secret: write '${{NAME}}' for the environment variable NAME (in single "
                "quotes in a shell), or name a connection"
            )


@dataclass(frozen=True, slots=True)
class Access:
    """Hold what a request shows to be let in.

    :ivar url: the first URL, with what the environment says and without a user part.
    :ivar headers: for the origin of that URL only.
    :ivar params: the same, in the query.
    :ivar verify: check certificates: against the usual authorities, those of a file, or not.
    :ivar secrets: what no message may show, longest first.
    """

    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    verify: bool | str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Access to {'://'.join(map(str, origin(self.url)[:2]))}>"

    def hide(self, text: str) -> str:
        """Replace the secrets in a text.

        :param text: what somebody else said.
        """
        for each in self.secrets:
            text = text.replace(each, "***")
        return text

    def apply(self, url: str) -> tuple[str, Mapping[str, str]]:
        """Give a URL with the parameters that let in, and the headers; another origin gets neither.

        :param url: the URL.
        """
        if origin(url) != origin(self.url):
            return url, {name: self.headers[name] for name in self.headers if name.lower() in {"accept", "user-agent"}}
        for name, value in self.params.items():
            url = with_parameter(url, name, value)
        return url, self.headers


def open_access(
    url: str, headers: Mapping[str, str], connection: str, environ: Mapping[str, str] | None = None
) -> Access:
    """Look up in the environment what the arguments only name.

    :param url: the URL; `${NAME}` in it stands for an environment variable.
    :param headers: more headers; the same in their values.
    :param connection: `ASYNCSTORE_CONN_<ID>`; empty for none.
    :param environ: the environment; left out, that of the process.
    :raises ConfigurationError: a variable is missing, or the connection has what it should not; shows no value.
    """
    found: Mapping[str, str] = os.environ if environ is None else environ
    secrets: list[str] = []

    def resolve(text: str, encode: Callable[[str], str] = str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in found:
                raise ConfigurationError(f"the environment has no {match[1]}, which the watcher's arguments name")
            secrets.append(found[match[1]])
            return encode(found[match[1]])

        return _REFERENCE.sub(value, text)

    options = _options(connection, found)
    sent = {"Accept": "application/json", "User-Agent": "asyncstore"}
    for name, text in {**options.get("headers", {}), **headers}.items():
        sent = {each: sent[each] for each in sent if each.lower() != name.lower()}
        sent[name] = resolve(text)
        if is_credential(name):
            secrets += [sent[name], *sent[name].split()[1:]]
    full = resolve(url, lambda value: quote(value, safe=""))
    secrets += [*secrets_in(full), *options.get("params", {}).values()]
    sent.update(_authorization(options, full, secrets))
    sent = {name: _sendable(name, value) for name, value in sent.items()}
    parts = urlsplit(full)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
    known = {form for each in map(str.strip, secrets) for form in (each, quote(each, safe="")) if len(form) > 3}
    ordered = tuple(sorted(known, key=len, reverse=True))
    return Access(bare, sent, options.get("params", {}), options.get("verify", True), ordered)


def _sendable(name: str, value: str) -> str:
    # A file of a secret often ends with a line break.
    value = value.strip()
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"header {name!r} cannot be sent: its value holds a line break or is not ASCII")
    return value


def _authorization(options: dict[str, Any], url: str, secrets: list[str]) -> dict[str, str]:
    parts = urlsplit(url)
    token = options.get("token")
    if token:
        secrets.append(token)
        return {"Authorization": f"Bearer {token.strip()}"}
    user, password = options.get("username"), options.get("password", "")
    if user is None and parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    if user is None:
        return {}
    # RFC 7617: user and password as UTF-8.
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets += [password, text]
    return {"Authorization": f"Basic {text}"}


def _options(connection: str, environ: Mapping[str, str]) -> dict[str, Any]:
    if not connection:
        return {}
    found = connection_options(connection, named_by="the watcher", holds="HTTP options", environ=environ)
    variable = f"environment variable {connection_variable(connection)}"
    if unknown := sorted(set(found) - _OPTIONS):
        raise ConfigurationError(f"{variable}: {unknown[0]!r} is not known; known are {', '.join(sorted(_OPTIONS))}")
    for name in ("headers", "params"):
        value: object = found.get(name, {})
        if not isinstance(value, dict) or not all(
            isinstance(each, str) for each in cast("dict[str, object]", value).values()
        ):
            raise ConfigurationError(f"{variable}: {name} is a JSON object of texts")
    for name in ("token", "username", "password"):
        if not isinstance(found.get(name, ""), str):
            raise ConfigurationError(f"{variable}: {name} is a text")
    if not isinstance(found.get("verify", True), bool | str):
        raise ConfigurationError(f"{variable}: verify is true, false or the path of a file of certificates")
    return found
