from __future__ import annotations

from pathlib import Path

from asyncstore.settings import Option, list_options

PAGE = Path(__file__).parents[2] / "docs/reference/configuration.md"


def row(option: Option) -> str:
    default = "none" if option.default is None else f"`{option.default}`"
    return f"| `{option.name}` | {default} | {option.allowed} | {option.description} |"


def table(section: str) -> str:
    rows = [row(option) for option in list_options() if option.section == section]
    return "\n".join([f"## `[{section}]`", "", "| option | default | allowed | |", "|---|---|---|---|", *rows])


def test_the_page_has_every_option_as_the_code_has_it() -> None:
    page = PAGE.read_text()
    for section in dict.fromkeys(option.section for option in list_options()):
        assert table(section) in page, f"put this into {PAGE.name}:\n\n{table(section)}"
