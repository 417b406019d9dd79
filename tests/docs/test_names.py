"""What the prose names is there: options, commands, and what a store can do."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from asyncstore import Store
from asyncstore.cli import main as program
from asyncstore.settings import list_options
from tests.docs.pages import PAGES, ROOT, without_blocks
from triggers.cli import watch
from triggers.cli.watching.command import KINDS

OPTIONS = {f"[{option.section}] {option.name}" for option in list_options()}
SECTIONS = {option.section for option in list_options()}
# Another program's, named beside ours.
AIRFLOW = {
    "[database] sql_alchemy_conn",
    "[triggerer] job_heartbeat_sec",
    "[triggerer] triggerer_health_check_threshold",
    "[triggerer] blocked_main_thread_warning_threshold",
    "[triggerer] shared_stream_cohort_grace_period",
    "[triggerer] shared_stream_subscriber_queue_size",
    "[triggerer] shared_stream_ack_timeout",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def codes(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(page))


@each_page
def test_options_are_there(page: Path) -> None:
    named = {found[0] for code in codes(page) if (found := re.match(r"\[[\w.]+\] \w+", code))}
    assert named - OPTIONS - (AIRFLOW if page.stem == "from-airflow" else set()) == set()
    assert {code[1:-1] for code in codes(page) if re.fullmatch(r"\[[a-z_.]+\]", code)} <= SECTIONS


@each_page
def test_commands_are_there(page: Path) -> None:
    for code in codes(page):
        words = code.split()
        if words[0] != "asyncstore":
            continue
        command: click.Command = program
        context = click.Context(program)
        for word in words[1:]:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            found = command.get_command(context, word)
            assert found is not None, f"{page}: {code}: there is no {word}"
            command = found
        asked = [kind.command for kind in KINDS] if command is watch else [command]
        known = {option for each in asked for parameter in each.get_params(context) for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", code)) <= known, f"{page}: {code}"


@each_page
def test_operations_of_a_store_are_there(page: Path) -> None:
    named = {found[1] for code in codes(page) if (found := re.match(r"store\.(\w+)", code))}
    assert [name for name in named if not hasattr(Store, name)] == []
