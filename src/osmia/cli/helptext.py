# SPDX-License-Identifier: Apache-2.0
"""``--help``: what it is for, usage, options, and at the end examples.

Options are described where they are declared (``Option.help``), everything
else in ``docs/tools/NAME.md``; the examples are taken from there into
``data/help-NAME.txt`` by ``scripts/gen_man.py``, because an installed
package has no docs folder.
"""

from __future__ import annotations

import os

from osmia.cli.args import name_of, usage_of
from osmia.cli.common import own_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.args import Parser
    from osmia.lang.options import Option
    from osmia.lang.unit import Unit

_HELP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")
_WIDTH, _COLUMN = 100, 28


def synopsis(parser: Parser) -> str:
    """``osmia opensnoop [options]``."""
    out = f"osmia {parser.program}"
    for option in parser.required:
        out += f" {name_of(option)}"
    if parser.shown:
        out += " [options]"
    optional = [name_of(option) for option in parser.arguments if option not in parser.required]
    return out + "".join(f" [{name}" for name in optional) + "]" * len(optional)


def _wrap(text: str, width: int, indent: str) -> str:
    import textwrap

    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


def option_lines(option: Option, flags: list[str]) -> str:
    """One option with its explanation."""
    left = "  " + usage_of(option, flags)
    text = option.help
    if option.choices:
        text += f" ({', '.join(option.choices)})"
    body = _wrap(text, _WIDTH, " " * _COLUMN)
    if not body:
        return left
    return left + "\n" + body if len(left) > _COLUMN - 2 else left.ljust(_COLUMN) + body[_COLUMN:]


def argument_lines(option: Option) -> str:
    """One positional argument with its explanation."""
    return f"  {name_of(option)}".ljust(_COLUMN) + option.help


def examples(name: str) -> str:
    """The examples of a tool, or nothing."""
    try:
        with open(os.path.join(_HELP, f"help-{name}.txt"), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def sections(unit: Unit, parser: Parser) -> list[tuple[str, list[Option]]]:
    """The options in groups: the tool's own, filters, common ones."""
    own, filters = own_options(unit)
    known = {id(option) for option in (*own, *filters)}
    groups = [
        ("options", own),
        ("filters", filters),
        ("common options", [option for option in parser.shown if id(option) not in known]),
    ]
    shown = {id(option) for option in parser.shown}
    groups = [(title, [o for o in options if id(o) in shown and o.help]) for title, options in groups]
    return [(title, options) for title, options in groups if options]


def tool_help(unit: Unit, parser: Parser) -> str:
    """The whole text."""
    out = [f"usage: {synopsis(parser)}\n"]
    if unit.doc:
        out.append("\n".join(line.rstrip() for line in _dedent(unit.doc)) + "\n")
    if parser.arguments:
        out.append("arguments:\n" + "\n".join(argument_lines(option) for option in parser.arguments) + "\n")
    for title, options in sections(unit, parser):
        lines = "\n".join(option_lines(option, parser.shown[option]) for option in options)
        if title == "common options":
            lines += "\n" + "  -h, --help".ljust(_COLUMN) + "show this help"
        out.append(f"{title}:\n{lines}\n")
    text = examples(unit.name)
    if text:
        out.append(f"examples:\n{text}")
    return "\n".join(out)


def _dedent(doc: str) -> list[str]:
    import textwrap

    first, _, rest = doc.strip().partition("\n")
    return [first, *textwrap.dedent(rest).split("\n")] if rest else [first]


def main_help() -> str:
    """What ``osmia help`` and ``osmia --help`` print."""
    from osmia.cli import catalog

    commands = "\n".join(f"  {name:<10} {text}" for name, text in catalog.COMMANDS.items())
    return f"""usage: osmia TOOL [options] [interval [count]]
       osmia COMMAND [options]
       osmia -e 'PROGRAM' [options]

BPF tracing for Linux.  Each tool answers one question about the running system; most need root.

commands:
{commands}

tools:
{_indented(catalog.listing())}
osmia TOOL --help shows a tool's options and examples.  Options of osmia itself: -e, --version, --help.
"""


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
