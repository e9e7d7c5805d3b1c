# SPDX-License-Identifier: Apache-2.0
"""Heat maps as SVG and HTML: one file with a picture for each key, all on the same axis of time.

Each cell that holds something is a rectangle with its time, values, count
and share as a tooltip, so the file says everything without scripts.  With
them, ``data/heat.js`` writes the same beside the picture while the mouse or
the arrow keys move over it.
"""

from __future__ import annotations

from osmia.views.heatmap import Grid, HeatMap, grid, legend, level
from osmia.views.page import asset, html, percent, svg_script, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SHADES = 9
#: Columns and rows of a picture at most: what a screen can tell apart.
_COLUMNS, _ROWS = 600, 64
_ROOM = 1080  # width of the cells together
_LEFT, _RIGHT = 170, 70
_CHAR = 7.25


class Sheet:
    """What is to be drawn: ``maps`` are ``(label, heat map)``, the label empty where there is only one."""

    __slots__ = ("maps", "note", "title", "unit")

    def __init__(self, maps: Sequence[tuple[str, HeatMap]], *, title: str, unit: str, note: str = "") -> None:
        self.maps = maps
        self.title = title
        self.unit = unit
        self.note = note


def svg(sheet: Sheet) -> str:
    """An SVG file."""
    parts, width, at = [], 640, 46 + (18 if sheet.note else 0)
    for label, heat in sheet.maps:
        drawn, size, height = _map(heat, label, sheet.unit)
        parts.append(f'<g transform="translate(0,{at})">\n{drawn}</g>\n')
        width, at = max(width, size), at + height + 14
    if not parts:
        parts.append(f'<text x="10" y="{at + 10}">nothing was counted</text>\n')
        at += 30
    note = f'<text class="note" x="10" y="42">{text(sheet.note)}</text>\n' if sheet.note else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" class="osmia-heat" width="{width}" height="{at}">\n'
        f"<style>{styles()}</style>\n<title>{text(sheet.title)}</title>\n"
        f'<rect class="ground" width="100%" height="100%"/>\n'
        f'<text class="title" x="10" y="22">{text(sheet.title)}</text>\n{note}{"".join(parts)}'
        f"{svg_script('heat.js')}</svg>\n"
    )


def page(sheet: Sheet) -> str:
    """A self-contained HTML page."""
    body = [f"<style>\n{styles()}</style>\n<h1>{text(sheet.title)}</h1>\n"]
    if sheet.note:
        body.append(f"<p>{text(sheet.note)}</p>\n")
    body.append('<p><output id="osmia-cell" aria-live="polite">&#160;</output></p>\n')
    for label, heat in sheet.maps:
        drawn, width, height = _map(heat, label, sheet.unit)
        body.append(
            f'<svg xmlns="http://www.w3.org/2000/svg" class="osmia-heat" width="{width}" height="{height}"'
            f' role="img" aria-label="{text(label or sheet.title)}">\n{drawn}</svg>\n'
        )
    if not sheet.maps:
        body.append("<p>nothing was counted</p>\n")
    return html(sheet.title, "".join(body), scripts=("heat.js",))


def styles() -> str:
    """The style sheet of heat maps: pale yellow to dark red, the darkest for the most."""
    shades = []
    for n in range(SHADES):
        part = n / (SHADES - 1)
        shades.append(f".h{n + 1}{{fill:hsl({52 - 52 * part:.0f},{88 - 8 * part:.0f}%,{84 - 58 * part**1.1:.0f}%)}}\n")
    return asset("heat.css") + "".join(shades)


def _map(heat: HeatMap, label: str, unit: str) -> tuple[str, int, int]:
    """Markup, width and height of one map."""
    made = grid(heat, _COLUMNS, _ROWS)
    across = max(2, min(16, _ROOM // max(1, made.columns)))
    up = max(7, min(15, 420 // max(1, len(made.rows))))
    top = 24 if label else 8
    out = [f'<text class="name" x="10" y="14">{text(label)}</text>\n'] if label else []
    foot = top + up * len(made.rows)
    out.append(
        f'<rect class="field" x="{_LEFT}" y="{top}" width="{across * made.columns}" height="{up * len(made.rows)}"/>\n'
    )
    total = sum(made.totals)
    out.append(f'<g class="cells" data-x="{_LEFT}" data-y="{top}" data-w="{across}" data-h="{up}">\n')
    for number, row in enumerate(made.rows):
        y = foot - up * (number + 1)
        out += [
            f'<rect class="h{level(count, made.most, SHADES)}" x="{_LEFT + column * across}" y="{y}"'
            f' width="{across}" height="{up}"><title>'
            f"{_cell(made, row.label(), unit, column, count, total)}</title></rect>\n"
            for column, count in enumerate(row.cells)
            if count
        ]
    out.append("</g>\n")
    out += _labels(made, unit, across, up, foot)
    width = _LEFT + max(across * made.columns + _RIGHT, 520)
    return "".join(out), width, foot + 44


def _cell(made: Grid, values: str, unit: str, column: int, count: int, total: int) -> str:
    return (
        f"{made.span(column)}, {text(values)} {text(unit)}: {count:,}, "
        f"{percent(count, made.totals[column])} of {made.step:g} s, {percent(count, total)} of all"
    )


def _labels(made: Grid, unit: str, across: int, up: int, foot: int) -> list[str]:
    out = []
    every = max(1, -(-11 // up))
    for number in range(0, len(made.rows), every):
        middle = foot - up * number - up // 2 + 4
        out.append(f'<text class="axis" x="{_LEFT - 6}" y="{middle}">{text(made.rows[number].label())}</text>\n')
    out.append(f'<text class="axis" x="{_LEFT - 6}" y="{foot + 14}">{text(unit)}</text>\n')
    step = max(1, -(-100 // across))
    for column in range(0, made.columns, step):
        left = _LEFT + column * across
        now = made.span(column).split()[0]
        out.append(f'<path d="M{left}.5 {foot}v4"/><text x="{left}" y="{foot + 14}">{now}</text>\n')
    x = float(_LEFT)
    y = foot + 24
    first = f"a column is {made.step:g} s; counts:"
    out.append(f'<text x="{_LEFT}" y="{y + 10}">{first}</text>\n')
    x += (len(first) + 1) * _CHAR
    for shade, low, high in legend(made.most, SHADES):
        counts = str(low) if low == high else f"{low}-{high}"
        out.append(
            f'<rect class="h{shade}" x="{x:.0f}" y="{y}" width="12" height="12"/>'
            f'<text x="{x + 15:.0f}" y="{y + 10}">{counts}</text>\n'
        )
        x += 15 + (len(counts) + 1) * _CHAR
    return out
