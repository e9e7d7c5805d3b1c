# SPDX-License-Identifier: Apache-2.0
"""Flame graphs as SVG and HTML: one file, interactive where scripts run, readable where they do not.

Without scripts the file shows every box with its name, and its numbers as a
tooltip.  ``data/flame.js`` reads the boxes back from the document, so the
numbers are in it once: each box is ``<g class="f k3" data-v="start total own
[before]">``.  The same markup stands in an SVG file and in a page.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.views.flame import FrameTree, layout, top
from osmia.views.frames import INLINED, JIT, KERNEL, KINDS, OTHER, USER, cut_sentence
from osmia.views.page import asset, html, percent, svg_script, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.views.flame import Box, Picture
    from osmia.views.frames import Frame

WIDTH = 1200
ROW = 17  # height of a row, and of its box a pixel less
_TOP, _BOTTOM = 64, 8  # title, controls and details above; nothing below
_CHAR = 7.25  # width of a character at 12 px in the fonts that _STYLE asks for
_SHADES = 8
_LEVELS = 7

#: Hue and lightness from the first shade to the last, by kind of frame.
_ON_CPU = {
    KERNEL: ((28, 38), (58, 72)),
    USER: ((0, 18), (62, 76)),
    JIT: ((95, 135), (60, 74)),
    INLINED: ((175, 195), (62, 76)),
    OTHER: ((45, 56), (60, 74)),
}
_OFF_CPU = {
    KERNEL: ((225, 240), (70, 80)),
    USER: ((200, 215), (64, 78)),
    JIT: ((160, 175), (60, 74)),
    INLINED: ((270, 285), (76, 86)),
    OTHER: ((195, 205), (78, 86)),
}
#: The palettes; ``on`` for what runs, ``off`` for what waits.
PALETTES = {"on": _ON_CPU, "off": _OFF_CPU}
_LETTER = {KERNEL: "k", USER: "u", JIT: "j", INLINED: "i", OTHER: "o"}


class Look:
    """How a flame graph is to look; everything may be left as it is.

    ``title``; ``unit`` of the counts, in the plural (``samples``, ``us``,
    ``bytes``); ``palette``, a key of :data:`PALETTES`; ``icicle``: the root
    at the top; ``subtitle``, one more line under the title.
    """

    __slots__ = ("icicle", "palette", "subtitle", "title", "unit")

    def __init__(
        self,
        title: str = "Flame graph",
        *,
        unit: str = "samples",
        palette: str = "on",
        icicle: bool = False,
        subtitle: str = "",
    ) -> None:
        if palette not in PALETTES:
            raise UserError(f"there is no palette {palette!r}", fix=f"it is one of {', '.join(PALETTES)}")
        self.title = title
        self.unit = unit
        self.palette = palette
        self.icicle = icicle
        self.subtitle = subtitle


def svg(tree: FrameTree, look: Look | None = None) -> str:
    """An SVG file of ``tree``."""
    look = look or Look()
    picture = layout(tree)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + _svg(tree, picture, look, style=True) + svg_script("flame.js") + "</svg>\n"


def page(tree: FrameTree, look: Look | None = None) -> str:
    """A self-contained HTML page of ``tree``: the picture, and the frames with the most of their own as a table."""
    look = look or Look()
    picture = layout(tree)
    body = [
        f"<h1>{text(look.title)}</h1>\n",
        *[f"<p>{text(line)}</p>\n" for line in notes(tree, picture, look)],
        '<div id="osmia-bar"></div>\n',
        _svg(tree, picture, look, style=False),
        "</svg>\n",
        _table(tree, look),
    ]
    return html(look.title, f"<style>\n{styles(look.palette)}</style>\n" + "".join(body), scripts=("flame.js",))


def graph(tree: FrameTree, look: Look) -> str:
    """The graph alone, as markup for a page that brings :func:`styles` and ``flame.js``."""
    return _svg(tree, layout(tree), look, style=False) + "</svg>\n"


def notes(tree: FrameTree, picture: Picture, look: Look) -> list[str]:
    """What has to be said about the picture: what it counts, what is not drawn, what was cut."""
    first = f"{picture.total:,} {look.unit}"
    if tree.before:
        first += f"; before: {picture.total_before:,}. Red: a larger share than before, blue: a smaller one"
    out = [f"{look.subtitle}; {first}" if look.subtitle else first]
    if picture.hidden:
        out.append(
            f"{picture.hidden:,} frames are too narrow to be drawn or searched; "
            f"{percent(picture.hidden_total, picture.total)} of the {look.unit} are in or below them"
        )
    if picture.gone:
        out.append(f"{picture.gone:,} {look.unit} of the first run are in stacks that the second does not have")
    cut = cut_total(tree)
    if cut:
        out.append(cut_sentence(cut, picture.total, look.unit))
    return out


def cut_total(tree: FrameTree) -> int:
    """What was counted in stacks that were cut."""
    from osmia.views.frames import TRUNCATED

    inside = [False] * len(tree)
    cut = 0
    for node in range(1, len(tree)):
        if inside[tree.parents[node]]:
            inside[node] = True
        elif tree.frames[node][0] == TRUNCATED:
            inside[node] = True
            cut += tree.totals[node]
    return cut


def shade(name: str) -> int:
    """The shade of a name, 0 to 7: the same in every run, so that pictures can be compared."""
    from binascii import crc32

    return crc32(name.encode("utf-8", "surrogatepass")) % _SHADES


def frame_class(frame: Frame) -> str:
    """The style class of a frame: its kind and shade."""
    return f"{_LETTER[frame[1]]}{shade(frame[0])}"


def styles(palette: str) -> str:
    """The style sheet of flame graphs with the colours of ``palette``."""
    out = [asset("flame.css")]
    for kind, ((hue, hue_end), (light, light_end)) in PALETTES[palette].items():
        for n in range(_SHADES):
            part = n / (_SHADES - 1)
            out.append(
                f".{_LETTER[kind]}{n} rect{{fill:hsl({hue + (hue_end - hue) * part:.0f},"
                f"74%,{light + (light_end - light) * (1 - part):.0f}%)}}\n"
            )
    for level in range(_LEVELS + 1):
        light = 94 - 5 * level
        out.append(f".r{level} rect{{fill:hsl(5,85%,{light}%)}}\n.b{level} rect{{fill:hsl(225,85%,{light}%)}}\n")
    return "".join(out)


def change(box: Box, picture: Picture) -> float:
    """How much larger the box's share of the second run is than of the first, in parts of the whole (-1 to 1)."""
    after = box.total / picture.total if picture.total else 0.0
    return after - (box.before / picture.total_before if picture.total_before else 0.0)


def _change_class(delta: float, most: float) -> str:
    """Red for more, blue for less; the square root makes small changes visible beside one large one."""
    if not most or abs(delta) < 1e-9:
        return "r0"
    level = max(1, round(_LEVELS * (abs(delta) / most) ** 0.5))
    return f"{'r' if delta > 0 else 'b'}{level}"


def _svg(tree: FrameTree, picture: Picture, look: Look, *, style: bool) -> str:
    """The element without its end."""
    depth = len(picture.rows)
    top_of_rows = _TOP if style else 4
    said = notes(tree, picture, look) if style else []
    top_of_rows += 16 * len(said)
    height = top_of_rows + ROW * depth + _BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="osmia-flame" width="{WIDTH}" height="{height}"'
        f' data-total="{picture.total}" data-before="{picture.total_before}" data-unit="{text(look.unit)}"'
        f' data-top="{top_of_rows}" data-icicle="{int(look.icicle)}" aria-label="{text(look.title)}">\n'
    ]
    if style:
        out.append(f"<style>{styles(look.palette)}</style>\n<title>{text(look.title)}</title>\n")
        out.append('<rect class="ground" width="100%" height="100%"/>\n')
        out.append(f'<text class="title" x="10" y="22">{text(look.title)}</text>\n')
        out += [f'<text class="note" x="10" y="{_TOP + 10 + 16 * n}">{text(line)}</text>\n'
                for n, line in enumerate(said)]  # fmt: skip
    most = 0.0
    if tree.before:
        most = max((abs(change(box, picture)) for row in picture.rows[1:] for box in row), default=0.0)
    out.append('<g class="rows">\n')
    for level, row in enumerate(picture.rows):
        at = level if look.icicle else depth - 1 - level
        out.append(f'<g class="row" transform="translate(0,{top_of_rows + ROW * at})">\n')
        out += [_box(box, picture, look, most) for box in row]
        out.append("</g>\n")
    out.append("</g>\n")
    return "".join(out)


def _box(box: Box, picture: Picture, look: Look, most: float) -> str:
    scale = WIDTH / (picture.total or 1)
    x, width = box.start * scale, box.total * scale
    name = text(box.frame[0])
    values = f"{box.start} {box.total} {box.own}"
    details = f"{box.total:,} {text(look.unit)}, {percent(box.total, picture.total)}"
    if box.frame[1]:
        details += f", {KINDS[box.frame[1]]}"
    style = frame_class(box.frame)
    if picture.total_before:
        delta = change(box, picture)
        values += f" {box.before}"
        details += f"; before: {box.before:,}, {percent(box.before, picture.total_before)}; {100 * delta:+.2f} points"
        style = _change_class(delta, most)
    label = _label(box.frame[0], width)
    shown = f'<text x="{x + 3:.1f}" y="12">{text(label)}</text>' if label else ""
    kind = f' data-k="{_LETTER[box.frame[1]]}"' if picture.total_before else ""
    return (
        f'<g class="f {style}"{kind} data-v="{values}"><title>{name}\n{details}</title>'
        f'<rect x="{x:.2f}" width="{_drawn(width):.2f}" height="{ROW - 1}"/>{shown}</g>\n'
    )


def _drawn(width: float) -> float:
    """The width that is drawn: wide boxes leave a gap, so that neighbours of one colour can be told apart."""
    return width - 0.5 if width > 3 else width


def _label(name: str, width: float) -> str:
    """As much of ``name`` as fits; nothing if less than three characters would."""
    room = int((width - 6) / _CHAR)
    if room < 3:
        return ""
    if not name.isascii():
        # Scripts from Hangul on take two columns a character.
        room -= sum(1 for char in name[:room] if ord(char) >= 0x1100)
    if len(name) <= room:
        return name
    return name[: room - 2] + ".." if room >= 3 else ""


def _table(tree: FrameTree, look: Look) -> str:
    rows = []
    total = tree.totals[0]
    for (name, kind), own, below in top(tree):
        rows.append(
            f"<tr><td>{own:,}<td>{percent(own, total)}<td>{below:,}<td>{percent(below, total)}"
            f"<td>{KINDS[kind]}<td>{text(name)}\n"
        )
    return (
        "<h2>Frames by what was counted in themselves</h2>\n<table>\n"
        f"<tr><th>own {text(look.unit)}<th><th>with callees<th><th>kind<th>frame\n{''.join(rows)}</table>\n"
    )
