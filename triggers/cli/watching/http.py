"""`asyncstore watch https://host/path`."""

from __future__ import annotations

from typing import Any

import click

from asyncstore import ConfigurationError
from asyncstore.cli.failures import Misuse

from ...sources import HttpTrigger
from .kinds import Kind
from .running import name_option, watch_source

__all__ = ["KIND"]


@click.command(short_help="Every item of an HTTP API that answers in JSON.")
@click.argument("url")
@click.option("--items", default="", metavar="PATH", help="Where the list is: data.items. Default: the answer.")
@click.option("--id", default="", metavar="PATH", help="Where in an item its id is. Default: all of it.")
@click.option("--changes", is_flag=True, help="An item that changed is an event, too.")
@click.option("--watermark", default="", metavar="PATH", help="What grows: items not below the greatest so far.")
@click.option("--since", default="", metavar="PARAM", help="Tells the API: PARAM, or 'PARAM=x{watermark}'.")
@click.option("--ascending", is_flag=True, help="Items come in the order of their watermarks.")
@click.option("--next", default="", metavar="PATH", help="Where the next page's URL is. Default: the Link header.")
@click.option("--cursor", default="", metavar="PARAM", help="What --next finds is no URL; it goes in here.")
@click.option("--page", default="", metavar="PARAM", help="Counts pages, up to the first empty one.")
@click.option("--first-page", default=1, show_default=True, help="The number of the first page.")
@click.option("--offset", default="", metavar="PARAM", help="Counts items, up to the first empty page.")
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Also sent; '${VAR}' is a variable.")
@click.option("--connection", default="", metavar="ID", help="Credentials: the variable ASYNCSTORE_CONN_<ID>.")
@click.option("--new-only", is_flag=True, help="Not the items that are there at the very first start.")
@click.option("--interval", default=60.0, show_default=True, help="Seconds between looks.")
@click.option("--timeout", default=30.0, show_default=True, help="Longest silence, in seconds.")
@click.option("--connect-timeout", default=10.0, show_default=True, help="Seconds to connect.")
@click.option("--max-bytes", default=16 * 1024 * 1024, show_default=True, help="A larger answer is refused.")
@name_option("items")
@click.option("--once", is_flag=True, help="End when every item that is there has been recorded.")
@click.pass_context
def http(context: click.Context, /, url: str, header: tuple[str, ...], name: str, **options: Any) -> None:
    """Watch the HTTP API at URL: every item of its JSON answer becomes one event, with the item as payload.

    Each event and the memory of the item are one commit, and then one JSON line on stdout. Kill it at any moment and
    start it again: no event is lost and none is doubled. An API that is away, slow or refuses is waited for.

    With --watermark only its greatest value is kept, instead of every item that the API shows.

    Secrets belong into the environment: '${NAME}' in URL or header, in single quotes, or --connection. Those in a URL
    are masked wherever it is shown.
    """
    try:
        trigger = HttpTrigger(url, headers=dict(map(_header, header)), memory=name, **options)
        trigger.check()
    except (ValueError, ConfigurationError) as error:
        raise Misuse(str(error)) from error
    watch_source(context, lambda _: trigger, uri=trigger.uri, name=name, shown=trigger.uri)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a header is written as 'Name: value'")
    return name.strip(), value.strip()


KIND = Kind("API", "https://host/path", frozenset({"http", "https"}), http)
