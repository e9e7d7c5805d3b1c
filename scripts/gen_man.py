#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write what is derived from docs/tools and docs/commands: man pages, and the examples that ``--help`` ends in.

    gen_man.py            write docs/man/osmia-NAME.8 and src/osmia/data/help-NAME.txt for every tool,
                          and for the commands that have a page
    gen_man.py --check    exit 1 if one of them is not what would be written

The text comes from the Markdown, the list of options from the tool itself
(``Option.help``), so neither is written twice.  Needs neither root nor a
kernel.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "tools"
COMMANDS = ROOT / "docs" / "commands"
MAN = ROOT / "docs" / "man"
HELP = ROOT / "src" / "osmia" / "data"
EXAMPLES = 8
#: Commands that are called in another way, too, as a regular expression.
_CALLED = {"run": "(?:run|-e)"}
#: Exit statuses of every tool, also for docs/reference.
EXIT_STATUS = {
    0: "all went well; ended by Ctrl-C, `-d`, `-c`, a count, or because the reader of the output went away",
    1: "an error, told in one sentence on standard error",
    2: "a mistake in the command line",
    3: "the tracing took more CPU time than `--max-overhead` allows; what was seen until then has been shown",
    70: "a defect of osmia",
    130: "Ctrl-C before the tracing began, or a second one",
}


def sections(text: str) -> list[tuple[str, list[str]]]:
    """``(heading, lines)`` of a Markdown text; the part before the first ``##`` has an empty heading."""
    out: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        if line.startswith("## ") and not fenced:
            out.append((line[3:].strip(), []))
        elif not (line.startswith("# ") and not fenced):
            out[-1][1].append(line)
    return out


def roff_escape(text: str) -> str:
    """Plain text for troff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def inline(text: str) -> str:
    """Markdown within a line: code and strong in bold, emphasis in italics, links as their text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*(?![\w*]))", text)
    out = []
    for part in parts:
        if part.startswith("`"):
            out.append(f"\\fB{roff_escape(part[1:-1])}\\fR")
        elif part.startswith("**"):
            out.append(f"\\fB{roff_escape(part[2:-2])}\\fR")
        elif part.startswith("*") and len(part) > 2:
            out.append(f"\\fI{roff_escape(part[1:-1])}\\fR")
        else:
            out.append(roff_escape(part).removeprefix("\\&"))
    joined = "".join(out)
    return "\\&" + joined if joined.startswith((".", "'")) else joined


def table_rows(lines: list[str]) -> list[list[str]]:
    """The cells of a Markdown table without its head and rule."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return [row for row in rows[1:] if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def body(lines: list[str]) -> list[str]:
    """Markdown lines of one section as troff."""
    out: list[str] = []
    at, paragraph = 0, True
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("```"):
            block = []
            while at < len(lines) and not lines[at].startswith("```"):
                block.append(roff_escape(lines[at]))
                at += 1
            at += 1
            out += [".PP", ".RS 4", ".nf", *block, ".fi", ".RE"]
            paragraph = True
        elif line.startswith("### "):
            out.append(f".SS {inline(line[4:])}")
            paragraph = False
        elif line.startswith("|"):
            block = [line]
            while at < len(lines) and lines[at].startswith("|"):
                block.append(lines[at])
                at += 1
            for row in table_rows(block):
                out += [".TP", inline(row[0]), inline("; ".join(cell for cell in row[1:] if cell))]
            paragraph = True
        elif re.match(r"[-*] ", line):
            out += [".IP \\(bu 2", inline(line[2:])]
            paragraph = True
        elif not line.strip():
            paragraph = True
        elif line.startswith("<!--"):
            continue
        else:
            if paragraph and not re.match(r" +\S", line):
                out.append(".PP")
            out.append(inline(line.strip()))
            paragraph = False
    return out


def parser_for(name: str) -> Any:
    """The command line of a tool, or of a command that has a page."""
    from osmia.cli import commands, record, replay
    from osmia.cli.common import Common, parser_of
    from osmia.cli.main import tool_unit

    if name == "record":
        return record.Options().parser(shown=True)
    if name == "run":
        return commands.run_parser()
    if name == "bench":
        from osmia.cli import bench

        return bench.Options().parser(shown=True)
    return replay.general_parser() if name == "replay" else parser_of(tool_unit(name), Common())


def option_section(name: str) -> list[str]:
    """The options of a tool or command as troff, from itself."""
    from osmia.cli import catalog
    from osmia.cli.args import usage_of
    from osmia.cli.helptext import sections as groups
    from osmia.cli.main import tool_unit

    parser = parser_for(name)
    command = name in catalog.COMMANDS
    out = []
    for title, options in [("", list(parser.shown))] if command else groups(tool_unit(name), parser):
        out += [f".SS {title.capitalize()}"] if title else []
        for option in options:
            text = option.help + (f" ({', '.join(option.choices)})" if option.choices else "")
            out += [".TP", f"\\fB{roff_escape(usage_of(option, parser.shown[option]))}\\fR", inline(text)]
    out += [".TP", "\\fB\\-h, \\-\\-help\\fR", "show a short help"]
    return out


def synopsis(name: str) -> str:
    """The usage line of a tool or command."""
    from osmia.cli import helptext

    return helptext.synopsis(parser_for(name))


def man_page(name: str, text: str) -> str:
    """The whole man page of a tool or command."""
    from osmia.cli import catalog

    command = name in catalog.COMMANDS
    title = catalog.COMMANDS[name] if command else catalog.title(name)
    out = [
        f".\\\" Generated by scripts/gen_man.py from docs/{'commands' if command else 'tools'}/{name}.md.",
        f'.TH OSMIA\\-{name.upper()} 8 "" "osmia" "System Administration"',
        ".SH NAME",
        f"osmia\\-{roff_escape(name)} \\- {roff_escape(title)}",
        ".SH SYNOPSIS",
        f"\\fB{roff_escape(synopsis(name))}\\fR",
    ]
    parts = sections(text)
    options = False
    for heading, lines in parts:
        if not heading or heading.lower() == "synopsis":
            continue
        out.append(f".SH {heading.upper()}")
        if heading.lower() == "options":
            out += option_section(name)
            options = True
        out += body(lines)
        if heading.lower() == "description" and not any(h.lower() == "options" for h, _ in parts):
            out += [".SH OPTIONS", *option_section(name)]
            options = True
    if not options:
        out += [".SH OPTIONS", *option_section(name)]
    out.append(".SH EXIT STATUS")
    for status, meaning in EXIT_STATUS.items():
        out += [".TP", f"\\fB{status}\\fR", inline(meaning)]
    return "\n".join(out) + "\n"


def first_sentence(text: str) -> str:
    """The first sentence, without Markdown and without its full stop or colon."""
    text = re.sub(r"[`*]", "", " ".join(text.split()))
    found = re.match(r"(.+?[.:!?])(\s|$)", text)
    return (found.group(1) if found else text).rstrip(".:")


def help_text(name: str, text: str) -> str:
    """The examples for ``--help``: each command of the Examples section under the sentence that introduces it."""
    lines = next((lines for heading, lines in sections(text) if heading.lower() == "examples"), [])
    out: list[str] = []
    seen: set[str] = set()
    before: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.startswith("```"):
            before = [*before, line] if line.strip() and not line.startswith("#") else ([] if line.strip() else before)
            if not line.strip() and before and before[-1]:
                before = [*before, ""]
            continue
        while at < len(lines) and not lines[at].startswith("```"):
            command = re.match(rf"[#$] (?:sudo )?(osmia {_CALLED.get(name, name)}\b.*)", lines[at])
            if command and command.group(1) not in seen and len(seen) < EXAMPLES:
                seen.add(command.group(1))
                paragraph = " ".join(before).strip() if before else ""
                last = " ".join(re.split(r" {2,}", paragraph)[-1:])
                out.append(f"  {command.group(1)}\n" + (f"      {first_sentence(last)}\n" if last else ""))
                before = []
            at += 1
        at += 1
    return "".join(out)


def about_text(text: str) -> str:
    """What ``osmia list --for`` looks into: the first paragraph of the Description, as plain text."""
    lines = next((lines for heading, lines in sections(text) if heading.lower() == "description"), [])
    paragraph = "\n".join(lines).strip().split("\n\n")[0]
    return re.sub(r"[`*]|\]\([^)]*\)|\[", "", paragraph) + "\n"


def made() -> dict[Path, str]:
    """Every derived file and its text."""
    out = {}
    for path in [*sorted(DOCS.glob("*.md")), *sorted(COMMANDS.glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        out[MAN / f"osmia-{path.stem}.8"] = man_page(path.stem, text)
        out[HELP / f"help-{path.stem}.txt"] = help_text(path.stem, text)
        if path.parent == DOCS:
            out[HELP / f"about-{path.stem}.txt"] = about_text(text)
    return out


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT / "src"))
    importlib.import_module("osmia")
    check = arguments == ["--check"]
    if arguments and not check:
        sys.stderr.write((__doc__ or "") + os.linesep)
        return 2
    stale = []
    for path, text in made().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"not current: {', '.join(stale)}; run scripts/gen_man.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
