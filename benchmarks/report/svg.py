"""Charts as small SVG files: lines on logarithmic axes, and rows of percentiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast
from xml.sax.saxutils import escape

from .axis import Axis
from .model import Chart, Line, Ranges

__all__ = ["draw", "write_charts"]

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 250, 68, 56
_ROW, _GROUP = 19, 30
_INK, _FAINT, _GRID = "#1f2328", "#59636e", "#d8dee4"
_OURS = ("#0b5cad", "#1a9850", "#4b3fb0")
_OTHERS = ("#d1495b", "#e08a1e", "#7a5c3e", "#9b5de5", "#5f6b76", "#b5179e")
_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px;"
    f"fill:{_INK}}}.title{{font-size:15px;font-weight:600}}.faint{{fill:{_FAINT}}}.bold{{font-weight:600}}"
)


def write_charts(folder: Path, charts: Iterable[Chart]) -> None:
    """Write every chart that shows something.

    :param folder: made where it is missing.
    :param charts: the charts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        if chart.content:
            (folder / f"{chart.name}.svg").write_text(draw(chart), encoding="utf-8")


def draw(chart: Chart) -> str:
    """Give a chart as an SVG document.

    :param chart: with at least one line or row.
    """
    if chart.y:
        return _lines(chart, cast("Sequence[Line]", chart.content))
    return _ranges(chart, cast("Sequence[Ranges]", chart.content))


def _document(chart: Chart, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(chart.title, {chr(34): "&quot;"})}">'
    )
    body = [
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
        _text(20, 28, chart.title, "title"),
        *parts,
    ]
    return "\n".join([head, *body, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", colour: str = "") -> str:
    fill = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{fill}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = _GRID, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _colours(items: Iterable[Line | Ranges]) -> dict[str, str]:
    """Give every label a colour: a family of its own for ours."""
    found: dict[str, str] = {}
    ours = others = 0
    for item in items:
        if item.label in found:
            continue
        if item.style == "ours":
            found[item.label], ours = _OURS[ours % len(_OURS)], ours + 1
        else:
            found[item.label], others = _OTHERS[others % len(_OTHERS)], others + 1
    return found


def _lines(chart: Chart, lines: Sequence[Line]) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [value for line in lines for _, spread in line.points for value in (spread.least, spread.most)]
    across = Axis(min(xs), max(xs), _LEFT + 12, right - 12)
    up = Axis.rounded(min(ys), max(ys), bottom, _TOP)
    parts = [_rule(_LEFT, up(tick), right, up(tick)) for tick in up.ticks]
    parts += [_text(_LEFT - 8, up(tick) + 4, _short(tick), "faint", "end") for tick in up.ticks]
    parts += [_text(across(x), bottom + 20, _short(x), "faint", "middle") for x in xs]
    parts.append(_rule(_LEFT, bottom, right, bottom, _FAINT))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 14, chart.x, "faint", "middle"))
    parts.append(_text(20, _TOP - 18, chart.y, "faint"))
    colours = _colours(lines)
    parts += [part for line in lines for part in _line(line, colours[line.label], across, up)]
    parts += _labels(lines, colours, up, right)
    return _document(chart, _HEIGHT, parts)


def _line(line: Line, colour: str, across: Axis, up: Axis) -> list[str]:
    dash = {"ours": "", "raw": ' stroke-dasharray="7 4"', "peer": ' stroke-dasharray="2 3"'}[line.style]
    width = 2.6 if line.style == "ours" else 1.8
    path = " ".join(f"{across(x):.1f},{up(spread.median):.1f}" for x, spread in line.points)
    # Whiskers show the rounds.
    parts = [_rule(across(x), up(s.least), across(x), up(s.most), colour, 1) for x, s in line.points]
    parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>')
    parts += [f'<circle cx="{across(x):.1f}" cy="{up(s.median):.1f}" r="3.2" fill="{colour}"/>' for x, s in line.points]
    return parts


def _labels(lines: Sequence[Line], colours: dict[str, str], up: Axis, right: float) -> list[str]:
    """Write each name where its line ends, moved apart where they would overlap."""
    step = 16.0
    ends = sorted((up(line.points[-1][1].median), line.label) for line in lines)
    heights: list[float] = []
    for wanted, _ in ends:
        heights.append(max(wanted, heights[-1] + step) if heights else wanted)
    over = heights[-1] - (_HEIGHT - _BOTTOM + 8)
    for number in range(len(heights) - 1, -1, -1):
        below = heights[number + 1] - step if number + 1 < len(heights) else heights[number] - max(over, 0.0)
        heights[number] = min(heights[number], below)
    parts: list[str] = []
    for (end, label), height in zip(ends, heights, strict=True):
        parts.append(_rule(right - 6, end, right + 8, height, colours[label], 0.8))
        parts.append(_text(right + 12, height + 4, label, "bold", colour=colours[label]))
    return parts


def _ranges(chart: Chart, rows: Sequence[Ranges]) -> str:
    left, right = 250, _WIDTH - 40
    groups = list(dict.fromkeys(row.group for row in rows))
    top = _TOP - 24
    bottom = top + len(groups) * _GROUP + len(rows) * _ROW
    along = Axis.rounded(min(row.values[0] for row in rows), max(row.values[2] for row in rows), left, right)
    parts = [_rule(along(tick), top, along(tick), bottom + 6) for tick in along.ticks]
    parts += [_text(along(tick), bottom + 22, _short(tick), "faint", "middle") for tick in along.ticks]
    parts.append(_text((left + right) / 2, bottom + 42, chart.x, "faint", "middle"))
    colours, y = _colours(rows), float(top)
    for group in groups:
        y += _GROUP
        parts.append(_text(20, y - 6, group, "bold"))
        for row in rows:
            if row.group == group:
                parts += _range(row, colours[row.label], along, y + _ROW / 2, left)
                y += _ROW
    return _document(chart, bottom + 54, parts)


def _range(row: Ranges, colour: str, along: Axis, y: float, left: float) -> list[str]:
    x50, x90, x99 = (along(value) for value in row.values)
    return [
        _text(left - 12, y + 4, row.label, "bold" if row.style == "ours" else "", "end"),
        _rule(x50, y, x99, y, colour, 2),
        f'<circle cx="{x50:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>',
        _rule(x90, y - 5, x90, y + 5, colour, 2),
        f'<circle cx="{x99:.1f}" cy="{y:.1f}" r="3.6" fill="#ffffff" stroke="{colour}" stroke-width="2"/>',
    ]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
