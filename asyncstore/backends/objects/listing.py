"""Listing somebody else's objects, for whoever watches them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

from ...errors import ConfigurationError, WorkerBackendError
from .connections import OPTION, parse_url
from .storage import Missing, Objects

__all__ = ["ListedObject", "ObjectListing"]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """Hold what a listing tells of an object.

    :ivar path: its name, below the prefix of the URL.
    :ivar size: its bytes.
    :ivar last_modified: when it was put, in UTC.
    :ivar e_tag: what tells its content from another; None where the storage has none.
    :ivar version: names the version in a bucket that keeps them; None where the listing does not say.
    """

    path: str
    size: int
    last_modified: datetime
    e_tag: str | None
    version: str | None


class ObjectListing:
    """List the objects below a URL, with the credentials of its connection.

    :param url: `s3://connection@bucket/prefix/`, `gs://...`, `az://...` or `memory://name`.
    :raises ConfigurationError: the URL is refused; says what is allowed, and shows no secrets.
    """

    def __init__(self, url: str) -> None:
        try:
            self._target = parse_url(url)
        except ConfigurationError as error:
            raise _about(error) from None
        self._objects: Objects | None = None

    def __str__(self) -> str:
        return str(self._target)

    @property
    def kind(self) -> str:
        """Return `s3`, `gs`, `az`, `file` or `memory`."""
        return self._target.kind

    def uri_of(self, each: ListedObject) -> str:
        """Name an object for everybody: with its bucket and whole key, without the connection.

        :param each: the object.
        """
        target = self._target
        return "/".join([f"{target.kind}:/", *filter(None, (target.bucket, target.prefix)), each.path])

    def open(self) -> None:
        """Look up the connection and make a client; nothing is sent yet.

        :raises ConfigurationError: the connection is missing, or has an option that is not known.
        """
        if self._objects is None:
            try:
                self._objects = Objects(self._target)
            except ConfigurationError as error:
                raise _about(error) from None

    async def pages(self, after: str | None = None) -> AsyncGenerator[list[ListedObject]]:
        """List the objects, page by page; by name where the storage does so (S3 and GCS).

        :param after: only those whose name is greater, by code point. S3 is asked for just these.
        :raises ConfigurationError: as `open`.
        :raises WorkerBackendError: the storage cannot be read; shows no secrets.
        """
        self.open()
        assert self._objects is not None  # noqa: S101 - `open` made it
        try:
            async for page in self._objects.pages(after=after):
                yield [
                    ListedObject(each["path"], each["size"], each["last_modified"], each["e_tag"], each["version"])
                    for each in page
                ]
        except Missing:
            # Were it taken for an empty bucket, everything would be forgotten.
            raise WorkerBackendError(f"{self}: could not list the objects: nothing is there") from None


def _about(error: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(str(error).replace(OPTION, "an object-store URL"))
