"""Triggers of the schema: a reference that a row lets go of is remembered, in the transaction that does so.

So nothing is forgotten, whoever overwrites or deletes the row: a session of the caller's, garbage collection, or the
deletion of an asset or a run that takes its rows along. Values cost the look at their first character.
"""

from __future__ import annotations

__all__ = ["drop_triggers", "make_triggers"]

_TABLES = ("asyncstore_asset_state", "asyncstore_task_state")
# What is overwritten in place must not be removed when its row is overwritten; `offload.stored` has the marks.
_OVERWRITTEN = "substr(OLD.value, 1, 1) = '@' AND OLD.value <> NEW.value"
_DELETED = "substr(OLD.value, 1, 1) IN ('@', '&')"
_FUNCTION = "asyncstore_remember_leftover"


def make_triggers(dialect: str) -> list[str]:
    """Give the statements that make the triggers.

    :param dialect: `sqlite` or `postgresql`.
    """
    body = "INSERT INTO asyncstore_leftover (value) VALUES (OLD.value);"
    made: list[str] = []
    if dialect == "postgresql":
        made.append(
            f"CREATE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
        )
        does = f"EXECUTE FUNCTION {_FUNCTION}()"
    else:
        does = f"BEGIN {body} END"
    for table in _TABLES:
        for name, event, when in (
            ("overwritten", "UPDATE OF value", _OVERWRITTEN),
            ("deleted", "DELETE", _DELETED),
        ):
            made.append(f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} FOR EACH ROW WHEN ({when}) {does}")
    return made


def drop_triggers(dialect: str) -> list[str]:
    """Give the statements that drop the triggers."""
    names = [(f"{table}_{name}", table) for table in _TABLES for name in ("overwritten", "deleted")]
    if dialect == "postgresql":
        return [*(f"DROP TRIGGER {name} ON {table}" for name, table in names), f"DROP FUNCTION {_FUNCTION}"]
    return [f"DROP TRIGGER {name}" for name, _ in names]
