"""The page of commands holds every one as the program has it: usage, help, options, and the shape of its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from asyncstore.cli import main
from asyncstore.cli.showing import Shape, shape_of
from triggers.cli import triggerer, triggers, watch
from triggers.cli.watching.command import KINDS

PAGE = Path(__file__).parents[2] / "docs/reference/commands.md"
#: What other packages that happen to be installed add is none of ours.
OURS = {**main.commands, "triggerer": triggerer, "triggers": triggers, "watch": watch}


def commands() -> Iterator[tuple[str, click.Command]]:
    for name, command in OURS.items():
        yield from below(f"asyncstore {name}", command)
    for kind in KINDS:  # the source says which of them `asyncstore watch` is
        yield f"asyncstore watch {kind.name}", kind.command


def below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            if not each.hidden:
                yield from below(f"{path} {name}", each)


COMMANDS = dict(commands())
SHAPES = sorted({shape for each in COMMANDS.values() if (shape := shape_of(each))}, key=lambda shape: shape.__name__)


def section(path: str) -> str:
    """Give what the page is to say of a command."""
    command = COMMANDS[path]
    ctx = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(ctx))
    paragraphs = [" ".join(each.split()) for each in (command.help or "").partition("\b")[0].split("\n\n")]
    called = "asyncstore watch" if path.startswith("asyncstore watch ") else path
    parts = [f"### `{path}`", f"`{called} {usage}`", *(escaped(each) for each in paragraphs if each)]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    records = [record for each in options if (record := each.get_help_record(ctx)) is not None]
    if records:
        parts.append(
            "\n".join(["| option | |", "|---|---|", *(f"| `{name}` | {escaped(text)} |" for name, text in records)])
        )
    shape = shape_of(command)
    if shape is not None:
        parts.append(f"JSON: [`{shape.__name__}`](#{shape.__name__.lower()})")
    return "\n\n".join(parts)


def json_of(shape: type[Shape]) -> str:
    rows = [f"| `{name}` | {kind} | {escaped(text)} |" for name, kind, text in shape.describe()]
    head = [f"### {shape.__name__}", "", shape.__doc__ or "", "", "| key | type | |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def escaped(text: str) -> str:
    return re.sub(r"(?<![\w`])\*(?=\w)|\*\*\*", lambda found: found[0].replace("*", "\\*"), text).replace("|", "\\|")


def page() -> str:
    """Give the part of the page that is made of the program."""
    shapes = [json_of(shape) for shape in SHAPES]
    return "\n\n".join([*map(section, COMMANDS), "## The shapes of JSON", *shapes])


@pytest.mark.parametrize("path", COMMANDS)
def test_the_page_has_the_command_as_the_program_has_it(path: str) -> None:
    wanted = section(path)
    assert f"{wanted}\n" in PAGE.read_text(), f"put this into {PAGE.name}:\n\n{wanted}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_the_page_has_the_shape_as_the_program_has_it(shape: type[Shape]) -> None:
    wanted = json_of(shape)
    assert f"{wanted}\n" in PAGE.read_text(), f"put this into {PAGE.name}:\n\n{wanted}"


def test_the_page_has_nothing_that_the_program_has_not() -> None:
    heads = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    assert heads == [*(f"`{path}`" for path in COMMANDS), *(shape.__name__ for shape in SHAPES)]


def test_every_command_that_shows_facts_documents_each_key() -> None:
    silent = {path for path, command in COMMANDS.items() if shape_of(command) is None}
    groups = {path for path, command in COMMANDS.items() if isinstance(command, click.Group)}
    rest = {"asyncstore completion", "asyncstore triggerer", "asyncstore triggers forget", "asyncstore watch"}
    assert silent == groups | rest | {f"asyncstore watch {kind.name}" for kind in KINDS}
    for command in COMMANDS.values():
        shape = shape_of(command)
        for name, kind, text in shape.describe() if shape else []:
            assert text, name
            assert kind, name
