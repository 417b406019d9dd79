"""`asyncstore watch 'cron:*/5 * * * *'` and `asyncstore watch every:30s`."""

from __future__ import annotations

from functools import partial

import click

from asyncstore import Store
from asyncstore.cli.failures import Misuse

from ...sources import ScheduleTrigger
from .kinds import Kind
from .running import name_option, watch_source

__all__ = ["KIND"]


@click.command(short_help="Every tick of a clock: cron:'30 9 * * MON-FRI', every:30s.")
@click.argument("schedule")
@click.option("--timezone", default="UTC", show_default=True, help="Of the expression: Europe/Berlin.")
@click.option(
    "--catch-up",
    type=click.Choice(["all", "latest", "none"]),
    default="latest",
    show_default=True,
    help="What was missed while nothing ran.",
)
@click.option("--limit", default=1000, show_default=True, help="Missed ticks told at most, the latest ones.")
@click.option("--start", metavar="MOMENT", help="No tick before it.  [default: the very first start]")
@click.option("--end", metavar="MOMENT", help="No tick after it; then it is done.")
@click.option("--jitter", default=0.0, show_default=True, help="Shift all ticks by a part of so many seconds.")
@name_option("schedule")
@click.option("--once", is_flag=True, help="End when the ticks that are due have been recorded.")
@click.pass_context
def schedule(
    context: click.Context,
    schedule: str,
    timezone: str,
    catch_up: str,
    limit: int,
    start: str | None,
    end: str | None,
    jitter: float,
    name: str,
    once: bool,
) -> None:
    """Watch the clock: every tick of SCHEDULE becomes one event.

    SCHEDULE is cron:'*/5 * * * *' (minute, hour, day of the month, month, day of the week; with seconds in front where
    there are six fields), cron:@daily, or every:30s, every:1h30m, every:1d.

    The event and the memory of the last tick are one commit, and then one JSON line on stdout. Kill it at any moment
    and start it again: no tick is told twice, also where the clock goes back, and what was missed is told as --catch-up
    says. SIGINT and SIGTERM end it within five seconds.
    """
    make = partial(
        ScheduleTrigger,
        schedule,
        timezone=timezone,
        catch_up=catch_up,
        limit=limit,
        start=start,
        end=end,
        jitter=jitter,
        memory=name,
        once=once,
    )
    try:
        trigger = make()
    except ValueError as error:
        raise Misuse(str(error)) from None

    def fresh(_: Store) -> ScheduleTrigger:
        return make()

    watch_source(context, fresh, uri=trigger.uri, name=name, shown=trigger.uri)


KIND = Kind("SCHEDULE", "every:30s", frozenset({"cron", "every"}), schedule)
