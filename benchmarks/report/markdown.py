"""A run as Markdown: the targets first, then every table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .model import SectionReport, Table, Verdict

__all__ = ["markdown"]


def markdown(machine: Mapping[str, object], conditions: Sequence[str], reports: Iterable[SectionReport]) -> str:
    """Give a run as a Markdown document.

    :param machine: what it ran on, in order.
    :param conditions: how it ran, a line each.
    :param reports: what came out.
    """
    reports = list(reports)
    lines = ["# Measurements", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += [*(f"- {line}" for line in conditions), ""]
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    if verdicts:
        lines += _targets(verdicts)
    for report in reports:
        for table in report.tables:
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    aligned = ["---", *("---:" for _ in table.header[1:])]
    lines = [f"## {table.title}", "", _row(table.header), _row(aligned), *(_row(each) for each in table.rows), ""]
    for note in table.notes:
        lines += [note, ""]
    return lines


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _targets(verdicts: list[Verdict]) -> list[str]:
    found = [verdict for verdict in verdicts if verdict.met is not None]
    met = sum(verdict.met is True for verdict in found)
    lines = [
        "## Targets",
        "",
        f"{met} of {len(found)} met. Each cell: the median ratio of the rounds, the least to the most, and its bound.",
        "",
    ]
    numbered = [each for each in verdicts if each.column.isdigit()]
    if numbered:
        lines += _matrix(numbered)
    others = [each for each in verdicts if not each.column.isdigit()]
    if others:
        lines += ["| target | where | ratio |", "|---|---|---|"]
        lines += [_row((each.target, each.column, _cell(each))) for each in others]
        lines.append("")
    return lines


def _matrix(verdicts: list[Verdict]) -> list[str]:
    columns = sorted({each.column for each in verdicts}, key=int)
    names = list(dict.fromkeys(each.target for each in verdicts))
    cells = {(each.target, each.column): _cell(each) for each in verdicts}
    lines = [_row(["target, at concurrency", *columns]), _row(["---"] * (1 + len(columns)))]
    lines += [_row([name, *(cells.get((name, column), "") for column in columns)]) for name in names]
    return [*lines, ""]


def _cell(verdict: Verdict) -> str:
    sign = "≥" if verdict.at_least else "≤"
    if verdict.found is None:
        return f"not measured ({sign} {verdict.bound:g})"
    found = verdict.found
    text = f"{_number(found.median)} ({_number(found.least)} to {_number(found.most)})"
    return f"{text}, {sign} {verdict.bound:g}: met" if verdict.met else f"**{text}, {sign} {verdict.bound:g}: not met**"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
