"""`asyncstore watch sqlite:///shop.db --table orders`."""

from __future__ import annotations

from functools import partial

import click

from asyncstore import Store
from asyncstore.cli.failures import Misuse
from asyncstore.cli.running import run

from ...sources import TableTrigger
from .kinds import Kind
from .running import name_option, watch_source

__all__ = ["KIND"]

_SCHEMES = {"sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle"}


@click.command(short_help="Every row of a table in a SQL database.")
@click.argument("url")
@click.option("--table", required=True, help="The table or view; SCHEMA.TABLE, where there are schemas.")
@click.option("--schema", help="The schema, where the name of the table holds a dot.")
@click.option("--column", help="The column that only grows.  [default: a key that is one number]")
@click.option("--key", multiple=True, help="A column that tells rows apart; again for more.  [default: primary key]")
@click.option("--select", "columns", multiple=True, help="A column of the payload; again for more.  [default: all]")
@click.option("--where", help="A condition in SQL that a row must meet.")
@click.option("--connection", metavar="ID", help="The connection ASYNCSTORE_CONN_<ID>, with the password.")
@click.option("--from", "start", metavar="VALUE", help="Begin at this value, at the very first start.")
@click.option("--new-only", is_flag=True, help="Not the rows that are there at the very first start.")
@click.option("--overlap", type=float, help="How late rows may show.  [default: 1000, 60 seconds, a day]")
@click.option("--interval", default=5.0, show_default=True, help="Seconds between looks.")
@click.option("--batch", default=1000, show_default=True, help="Rows that are read at once.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds that a query may take.")
@name_option("table")
@click.option("--once", is_flag=True, help="End when every row that is there has been recorded.")
@click.pass_context
def table(
    context: click.Context,
    url: str,
    table: str,
    schema: str | None,
    column: str | None,
    key: tuple[str, ...],
    columns: tuple[str, ...],
    where: str | None,
    connection: str | None,
    start: str | None,
    new_only: bool,
    overlap: float | None,
    interval: float,
    batch: int,
    timeout: float,
    name: str,
    once: bool,
) -> None:
    """Watch a table at URL: every row becomes one event, in the order of a column that only grows.

    The event and the memory of how far the table was read are one commit, and then one JSON line on stdout. Kill it at
    any moment and start it again: no event is lost and none is doubled. SIGINT and SIGTERM end it within five seconds.

    A row is told again when its value in the column changes, so --column updated_at tells updates. Rows that are
    committed late, behind others, are told as long as they are within --overlap: numbers of the column, seconds of a
    timestamp, days of a date.
    """
    make = partial(
        TableTrigger,
        url,
        table,
        schema=schema,
        column=column,
        key=key,
        columns=columns,
        where=where,
        connection=connection,
        start=start,
        new_only=new_only,
        overlap=overlap,
        interval=interval,
        batch=batch,
        timeout=timeout,
        memory=name,
        once=once,
    )
    try:
        trigger = make()
    except ValueError as error:
        raise Misuse(str(error)) from None
    run(context, trigger.check)

    def fresh(_: Store) -> TableTrigger:
        return make()

    watch_source(context, fresh, uri=trigger.uri, name=name, shown=trigger.uri)


KIND = Kind("TABLE", "sqlite:///shop.db", frozenset(_SCHEMES), table)
