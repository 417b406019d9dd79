"""Run Airflow's own state store in its own environment; told what to do in JSON lines.

Started as a module by `contenders.airflow`, with Airflow's options in the environment. Each line on stdin is a request
such as `{"kind": "get", "level": 16, "seconds": 1.0}`; each line on stdout is a sample or `{"error": "..."}`. The first
line on stdout says that it is ready.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from ..measuring.data import TEXTS, keys_of, shuffled
from ..measuring.loop import Kind, Operation, closed_loop

__all__ = ["main"]


def _get(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"airflow.{module}"), name)


def _register(session: Any) -> tuple[int, int]:
    # State hangs on a run of a DAG, or on an asset.
    now = _get("_shared.timezones.timezone", "utcnow")()
    session.add(_get("models.dagbundle", "DagBundleModel")(name="bench"))
    session.flush()
    session.add(_get("models.dag", "DagModel")(dag_id="bench", bundle_name="bench"))
    session.flush()
    manual, running = _get("utils.types", "DagRunType").MANUAL, _get("utils.state", "DagRunState").RUNNING
    run = _get("models.dagrun", "DagRun")(
        dag_id="bench", run_id="run", run_type=manual, state=running, logical_date=now, run_after=now
    )
    asset = _get("models.asset", "AssetModel")(name="bench", uri="bench")
    session.add_all([run, asset])
    session.flush()
    return int(run.id), int(asset.id)


def fill(scope: str, rows: int) -> Any:
    """Make Airflow's tables and write the rows.

    :param scope: "asset" or "task".
    :param rows: how many.
    :return: the scope as Airflow names it.
    """
    importlib.import_module("airflow.utils.db").initdb()
    now = _get("_shared.timezones.timezone", "utcnow")()
    texts = [{"key": key, "value": TEXTS[number % len(TEXTS)]} for number, key in enumerate(keys_of(rows))]
    names: dict[str, object] = {"dag_id": "bench", "run_id": "run", "task_id": "task", "map_index": -1}
    with _get("utils.session", "create_session")() as session:
        run, asset = _register(session)
        if scope == "asset":
            model, given = _get("models.asset_state_store", "AssetStateStoreModel"), _get("state", "AssetScope")
            common = names = {"asset_id": asset}
        else:
            model, given = _get("models.task_state_store", "TaskStateStoreModel"), _get("state", "TaskScope")
            common = {"dag_run_id": run, **names}
        session.execute(model.__table__.insert(), [{**each, **common, "updated_at": now} for each in texts])
    return given(**names)


def operations(scope: Any) -> dict[Kind, Operation]:
    """Give what is measured: the backend called directly, no server in between, JSON text in and out."""
    backend, count = _get("state.metastore", "MetastoreBackend")(), len(TEXTS)
    return {
        "get": lambda key, _: backend.aget(scope, key),
        "set": lambda key, number: backend.aset(scope, key, TEXTS[number % count]),
    }


async def _dispose() -> None:
    engine = _get("settings", "async_engine")
    if engine is not None:
        await engine.dispose()


def main() -> None:
    """Fill, then answer requests until stdin ends."""
    # Airflow may print; only answers belong on stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scope, rows = sys.argv[1], int(sys.argv[2])
    given, keys = fill(scope, rows), shuffled(rows)
    print(json.dumps({"ready": importlib.import_module("airflow").__version__}), file=answers, flush=True)
    with asyncio.Runner() as runner:
        found = operations(given)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                loop = closed_loop(found[request["kind"]], keys, request["level"], request["seconds"])
                answer: dict[str, object] = asdict(runner.run(loop))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
            print(json.dumps(answer), file=answers, flush=True)
        runner.run(_dispose())


if __name__ == "__main__":
    main()
