"""What an operator wants to know of the database itself. Only PostgreSQL has settings and rights to ask for."""

from __future__ import annotations

from sqlalchemy import ARRAY, Executable, Text, and_, bindparam, func, not_, select, update

from ..schema import event, revision

__all__ = ["lacking_rights", "last_event_time", "server_facts", "touch_revision"]


def touch_revision() -> Executable:
    """Write what is there already."""
    return update(revision).values(value=revision.c.value)


def last_event_time() -> Executable:
    """Tell when the latest event was recorded."""
    return select(event.c.created_at).order_by(event.c.id.desc()).limit(1)


def server_facts() -> Executable:
    """Tell the server's version, how many connections it takes and has, and whether it syncs and is a standby."""
    connections = select(func.count()).select_from(func.pg_stat_get_activity(None)).scalar_subquery()
    names = ("server_version", "server_version_num", "max_connections", "fsync", "full_page_writes")
    return select(*(func.current_setting(name) for name in names), connections, func.pg_is_in_recovery())


def lacking_rights() -> Executable:
    """List those of some tables that the role may not read and write."""
    table = func.unnest(bindparam("names", type_=ARRAY(Text))).column_valued("name")
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return select(table).where(not_(and_(*(func.has_table_privilege(table, right) for right in rights))))
