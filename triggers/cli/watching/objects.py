"""`asyncstore watch s3://bucket/prefix/`."""

from __future__ import annotations

import click

from asyncstore import ConfigurationError
from asyncstore.cli.failures import Misuse

from ...sources import ObjectStoreTrigger
from .kinds import Kind
from .running import name_option, watch_source

__all__ = ["KIND"]


@click.command(short_help="Every version of an object in a bucket.")
@click.argument("url")
@click.option("--pattern", default="*", help="Glob for last names; for relative paths where it holds a '/'.")
@click.option("--recursive", is_flag=True, help="Objects below further slashes, too.")
@click.option("--created-only", is_flag=True, help="Only the first version of each path, no changes.")
@click.option("--new-only", is_flag=True, help="Not the objects that are there at the very first start.")
@click.option("--ordered", is_flag=True, help="New paths are greater than all before: list only those.")
@click.option("--interval", default=30.0, show_default=True, help="Seconds between looks.")
@name_option("objects")
@click.option("--once", is_flag=True, help="End when every object that is there has been recorded.")
@click.pass_context
def objects(
    context: click.Context,
    url: str,
    pattern: str,
    recursive: bool,
    created_only: bool,
    new_only: bool,
    ordered: bool,
    interval: float,
    name: str,
    once: bool,
) -> None:
    """Watch the objects below URL: every version (path, size, time, entity tag) becomes one event.

    URL is s3://connection@bucket/prefix/, gs://... or az://.... The connection is the environment variable
    ASYNCSTORE_CONN_<ID>, a JSON object of storage options; without one the cloud's usual environment counts.

    The event and the memory of the object are one commit, and then one JSON line on stdout. Kill it at any moment and
    start it again: no event is lost and none is doubled. A bucket that cannot be read is waited for.
    """
    try:
        trigger = ObjectStoreTrigger(
            url,
            pattern=pattern,
            recursive=recursive,
            created_only=created_only,
            new_only=new_only,
            ordered=ordered,
            interval=interval,
            once=once,
            memory=name,
        )
        trigger.check()
    except (ValueError, ConfigurationError) as error:
        raise Misuse(str(error)) from error
    watch_source(context, lambda _: trigger, uri=trigger.uri, name=name, shown=trigger.uri)


_SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl"})

KIND = Kind("BUCKET", "s3://bucket/inbox/", _SCHEMES, objects)
