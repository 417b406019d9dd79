"""The statements of the hot path, as asyncpg takes them; the functions they call are made by the migrations."""

from __future__ import annotations

__all__ = [
    "COMMIT",
    "COMMIT_PATIENTLY",
    "GET_ASSET",
    "GET_ASSETS",
    "GET_ASSET_ENTRIES",
    "GET_ASSET_ENTRY",
    "GET_TASK",
    "GET_TASKS",
    "GET_TASK_ENTRIES",
    "GET_TASK_ENTRY",
    "PUT_ASSET",
    "PUT_ASSETS",
    "PUT_TASK",
    "PUT_TASKS",
]

# A row for each key asked for: its place, why it cannot be read (1: no such asset, 2: inactive), the text. By the whole
# primary key, whatever the planner thinks of tables that are new and empty, or were when it made the plan.
GET_ASSETS = """
SELECT c.n, CASE WHEN a.id IS NULL THEN 1 WHEN a.deactivated_at IS NOT NULL THEN 2 ELSE 0 END, s.value
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS c (asset, key, n)
LEFT JOIN LATERAL (SELECT a.id, a.deactivated_at FROM asyncstore_asset a WHERE a.id = c.asset LIMIT 1) a ON true
LEFT JOIN LATERAL (
  SELECT * FROM asyncstore_asset_state s WHERE s.asset_id = c.asset AND s.key = c.key LIMIT 1
) s ON true
"""

GET_TASKS = """
SELECT c.n, 0, s.value
FROM unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::text[]) WITH ORDINALITY
  AS c (dag, run, task, map, key, n)
CROSS JOIN LATERAL (
  SELECT t.id FROM asyncstore_task_instance t
  WHERE t.dag_id = c.dag AND t.run_id = c.run AND t.task_id = c.task AND t.map_index = c.map LIMIT 1
) t
CROSS JOIN LATERAL (
  SELECT * FROM asyncstore_task_state s WHERE s.task_instance_id = t.id AND s.key = c.key LIMIT 1
) s
WHERE s.expires_at IS NULL OR s.expires_at > asyncstore_now($1)
"""

# The same for one key: what is made for many costs a fifth more.
GET_ASSET = """
SELECT 1, CASE WHEN a.deactivated_at IS NULL THEN 0 ELSE 2 END, s.value
FROM asyncstore_asset a LEFT JOIN asyncstore_asset_state s ON s.asset_id = a.id AND s.key = $2
WHERE a.id = $1
"""

GET_TASK = """
SELECT 1, 0, s.value
FROM asyncstore_task_instance t JOIN asyncstore_task_state s ON s.task_instance_id = t.id AND s.key = $6
WHERE t.dag_id = $2 AND t.run_id = $3 AND t.task_id = $4 AND t.map_index = $5
  AND (s.expires_at IS NULL OR s.expires_at > asyncstore_now($1))
"""

# Of a key that has a row already; gives none where it has not, or the asset is unknown or inactive. A row that is new
# takes more: its version must be drawn once nobody else can write the key.
PUT_ASSET = """
UPDATE asyncstore_asset_state AS s SET
  value = $4::text, version = nextval('asyncstore_version'), updated_at = asyncstore_now($1),
  updated_by = $5::text, operation = $6::bigint
FROM asyncstore_asset a
WHERE a.id = $2 AND a.deactivated_at IS NULL AND s.asset_id = a.id AND s.key = $3::text
RETURNING s.version, s.updated_at, CASE WHEN asyncstore_watched() THEN
  pg_notify('asyncstore', asyncstore_token($2, NULL, NULL, NULL, $3)) END
"""

PUT_TASK = """
UPDATE asyncstore_task_state AS s SET
  value = $7::text, version = nextval('asyncstore_version'), updated_at = asyncstore_now($1),
  updated_by = $8::text, operation = $9::bigint, expires_at = $10::bigint
FROM asyncstore_task_instance t
WHERE t.dag_id = $2 AND t.run_id = $3 AND t.task_id = $4 AND t.map_index = $5
  AND s.task_instance_id = t.id AND s.key = $6::text
RETURNING s.version, s.updated_at, CASE WHEN asyncstore_watched() THEN
  pg_notify('asyncstore', asyncstore_token(NULL, $2, $3, $4, $6)) END
"""

PUT_ASSETS = "SELECT asset, key, version, moment FROM asyncstore_put_assets($1, $2, $3, $4, $5, $6)"
PUT_TASKS = "SELECT key, version, moment FROM asyncstore_put_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_COMMIT = ", ".join(f"${number}" for number in range(1, 19))
COMMIT = f"SELECT * FROM asyncstore_commit({_COMMIT}, $19)"  # noqa: S608
# Waits for locks for as long as is said, which must be heard before the function begins.
COMMIT_PATIENTLY = f"""
SELECT made.* FROM set_config('lock_timeout', $20, true) AS patience (said),
  LATERAL asyncstore_commit({_COMMIT}, CASE WHEN patience.said IS NOT NULL THEN $19::text[] END) AS made
"""  # noqa: S608


def _entry(text: str, expires: str) -> str:
    return text.replace("s.value\n", f"s.value, s.version, s.updated_at, {expires}, s.updated_by\n", 1)


# With the version and the times.
GET_ASSET_ENTRY = _entry(GET_ASSET, "NULL::bigint")
GET_ASSET_ENTRIES = _entry(GET_ASSETS, "NULL::bigint")
GET_TASK_ENTRY = _entry(GET_TASK, "s.expires_at")
GET_TASK_ENTRIES = _entry(GET_TASKS, "s.expires_at")
