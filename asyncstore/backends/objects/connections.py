"""From a base URL to a client of its object storage; credentials come from the named connection, never from the URL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from ...connections import connection_options, connection_variable
from ...errors import ConfigurationError
from .places import MAX_PATH

__all__ = ["OPTION", "Target", "hide", "open_client", "parse_url", "secrets_of"]

#: Where URLs usually come from; messages begin with it.
OPTION = "[common.io] state_store_objectstorage_path"
_KINDS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "azure", "abfs", "abfss", "adl"), "az"),
    **dict.fromkeys(("file", "local"), "file"),
    "memory": "memory",
}
#: How fsspec's clients call what ours calls otherwise.
_ALIASES = {
    "s3": {
        "key": "access_key_id",
        "secret": "secret_access_key",
        "token": "session_token",
        "endpoint_url": "endpoint",
        "region_name": "region",
        "aws_session_token": "session_token",
    },
    "gs": {"token": "service_account"},
    "az": {},
}
#: What may be shown of a connection.
_PLAIN = {
    "region",
    "endpoint",
    "endpoint_url",
    "aws_region",
    "aws_endpoint",
    "account_name",
    "allow_http",
    "virtual_hosted_style_request",
}

_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_DURATIONS = {
    *("retry_timeout", "init_backoff", "max_backoff", "timeout", "connect_timeout", "pool_idle_timeout"),
    *("http2_keep_alive_interval", "http2_keep_alive_timeout"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Hold what a base URL says.

    :ivar kind: `s3`, `gs`, `az`, `file` or `memory`.
    :ivar bucket: the bucket or container; empty for a folder.
    :ivar prefix: the path below it, without slashes at its ends; of a folder, its path.
    :ivar connection: the id of the connection; None for the cloud's usual environment.
    """

    kind: str
    bucket: str
    prefix: str
    connection: str | None

    def __str__(self) -> str:
        if self.kind == "file":
            return f"file://{self.prefix}"
        user = "" if self.connection is None else f"{self.connection}@"
        return f"{self.kind}://{user}{self.bucket}/{self.prefix}".rstrip("/")


def parse_url(url: str) -> Target:
    """Read a base URL.

    :raises ConfigurationError: it is of another kind, or names no bucket; says what is allowed, and shows no secrets.
    """
    scheme, _, rest = url.partition("://")
    kind = _KINDS.get(scheme.lower())
    if "://" not in url:  # what it is nobody knows: a password, perhaps
        raise ConfigurationError(f"{OPTION}: allowed is a URL such as s3://connection@bucket/prefix/ or file:///folder")
    if kind is None:
        raise ConfigurationError(
            f"{OPTION}: {scheme!r} cannot be used: allowed are s3, gs, az, file and memory, which put an object whole "
            "or not at all. Other protocols of fsspec (sftp, smb, hdfs, ...) promise no such thing: a reader could see "
            "half an object; mount one and use file://, or write a worker-side backend of your own"
        )
    authority, slash, path = rest.partition("/")
    user, at, bucket = authority.rpartition("@")
    if ":" in user or (at and not user):
        raise ConfigurationError(
            f"{OPTION}: the user part of the URL is the id of a connection and nothing else; put the credentials into "
            "ASYNCSTORE_CONN_<ID>"
        )
    if "?" in rest or "#" in rest:
        raise ConfigurationError(f"{OPTION}: a URL with a query or fragment; put options into ASYNCSTORE_CONN_<ID>")
    if kind == "file":
        return Target(kind, "", _folder(authority, slash + unquote(path)), None)
    if not bucket and kind != "memory":
        raise ConfigurationError(f"{OPTION}: {scheme}:// names no bucket; write {scheme}://bucket/prefix/")
    prefix = path.strip("/")
    if any(part in {"", ".", ".."} for part in prefix.split("/")) and prefix:
        raise ConfigurationError(f"{OPTION}: the path of the URL has a part that is empty, . or ..")
    if len(prefix.encode()) > 1023 - MAX_PATH:
        raise ConfigurationError(
            f"{OPTION}: the path of the URL is longer than {1023 - MAX_PATH} bytes, which the limit of 1,024 for the "
            "name of an object leaves for it"
        )
    return Target(kind, bucket, prefix, user or None)


def _folder(authority: str, path: str) -> str:
    if authority not in {"", "localhost"} or not path.startswith("/"):
        raise ConfigurationError(f"{OPTION}: a folder is written as file:///path, with three slashes")
    return str(Path(path))


def _options(target: Target, environ: Mapping[str, str]) -> dict[str, Any]:
    if target.connection is None:
        return {}
    return connection_options(target.connection, named_by=OPTION, holds="storage options", environ=environ)


def secrets_of(target: Target, environ: Mapping[str, str] | None = None) -> list[str]:
    """List the texts of a connection that no message may show."""
    options = _options(target, os.environ if environ is None else environ)
    found: list[str] = []

    def look(name: str, value: object) -> None:
        if isinstance(value, dict):
            for inner, each in cast("dict[str, object]", value).items():
                look(inner, each)
        elif isinstance(value, str) and len(value) > 3 and name not in _PLAIN:
            found.append(value)

    look("", options)
    return sorted(found, key=len, reverse=True)


def hide(text: str, secrets: Sequence[str]) -> str:
    """Replace in a message what it must not show: secrets, and the user part of a URL with a password.

    :param text: what a client says.
    :param secrets: those of the connection.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    return _PASSWORD.sub("://***@", text)


def open_client(target: Target, environ: Mapping[str, str] | None = None) -> ObjectStore:
    """Give a client; nothing is sent yet.

    :param target: what the URL says.
    :param environ: the environment; left out, that of the process.
    :raises ConfigurationError: the connection is missing, or has an option that is not known.
    """
    options = _options(target, os.environ if environ is None else environ)
    if target.kind == "memory":
        return _memory(target)
    if target.kind == "file":
        try:
            return LocalStore(target.prefix, mkdir=True, automatic_cleanup=True)
        except OSError as error:
            raise ConfigurationError(
                f"{OPTION} = {target}: is no folder, and none can be made there: {error}"
            ) from None
    client: dict[str, Any] = {"timeout": 60, "connect_timeout": 5, **_nested(target, options, "client_options")}
    retry = {"max_retries": 3, "retry_timeout": 20, **_nested(target, options, "retry_config")}
    aliases = _ALIASES[target.kind]
    config = {aliases.get(name, name): value for name, value in options.items()}
    if any(str(config.get(name, "")).startswith("http://") for name in ("endpoint", "aws_endpoint", "azure_endpoint")):
        client.setdefault("allow_http", True)
    makers: dict[str, Callable[..., ObjectStore]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    try:
        return makers[target.kind](
            target.bucket,
            prefix=target.prefix or None,
            config=config,
            client_options=_durations(client),
            retry_config=_durations(retry),
        )
    except Exception as error:
        shown = hide(str(error).partition("\n")[0], secrets_of(target, environ))
        raise ConfigurationError(f"{OPTION} = {target}: {shown}") from None


def _nested(target: Target, options: dict[str, Any], name: str) -> dict[str, Any]:
    found = options.pop(name, {})
    if not isinstance(found, dict):
        variable = connection_variable(target.connection or "")
        raise ConfigurationError(f"environment variable {variable}: {name}: allowed is a JSON object")
    return cast("dict[str, Any]", found)


def _durations(options: dict[str, Any]) -> dict[str, Any]:
    # JSON has no durations: numbers are seconds.
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            found[name] = _durations(cast("dict[str, Any]", value))
        elif name in _DURATIONS and isinstance(value, int | float):
            found[name] = timedelta(seconds=value)
        else:
            found[name] = value
    return found


_memories: dict[tuple[str, str], MemoryStore] = {}


def _memory(target: Target) -> MemoryStore:
    # One for each URL, as a bucket is one for each name.
    return _memories.setdefault((target.bucket, target.prefix), MemoryStore())
