# SPDX-License-Identifier: Apache-2.0
"""``osmia -e 'PROGRAM' [options]``: a whole program on the command line.

The language's names are there without an import.  Python wants a decorator, the
function that it decorates and what follows on lines of their own; here they
may share one::

    osmia -e 'n = Hash[Comm, u64](); @tracepoint("syscalls:sys_enter_read") def read(call): n[current.comm] += 1'

A blank or semicolon that separates them becomes the end of a line, one
character for another, so that what is wrong can be shown where it was typed.
Several ``-e`` are the lines of one program.
"""

from __future__ import annotations

import sys

from osmia.errors import CompileError, OptionError, OsmiaError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from osmia.lang.unit import Unit

#: What the program is called in messages.
NAME = "-e"
_MODULE = "osmia_one_liner"
_USAGE = "osmia -e 'PROGRAM' [options]"


def run(words: list[str], exiting: bool) -> int:
    """Run the program in ``words`` (what follows the first ``-e``) with the options behind it; the exit status."""
    from osmia.cli.main import run_unit

    if not words:
        raise OptionError("the program is missing", where=NAME, fix=_USAGE)
    texts, rest = [words[0]], words[1:]
    while len(rest) > 1 and rest[0] == NAME:
        texts.append(rest[1])
        rest = rest[2:]
    text = "\n".join(texts)
    try:
        return run_unit(unit_of(text), rest, exiting)
    except CompileError as err:
        raise _in_place(err, text) from None


def unit_of(text: str) -> Unit:
    """What the program declares.  Raises CompileError for what is no Python, UserError for what fails or is empty."""
    from osmia.lang.unit import Unit

    lines = split(text)
    try:
        code = compile(lines, NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as err:
        raise _no_python(err, lines) from None
    _check_names(lines)
    import linecache

    linecache.cache[NAME] = len(lines), None, [line + "\n" for line in lines.split("\n")], NAME
    module = type(sys)(_MODULE)
    module.__dict__.update(_names(code))
    sys.modules[_MODULE] = module
    try:
        exec(code, module.__dict__)
    except Exception as err:
        if isinstance(err, (OsmiaError, BrokenPipeError)):
            raise
        raise _failed(err, lines) from None
    unit = Unit(NAME, module.__dict__)
    if not unit.progs:
        raise UserError("there is no kernel function in it", where=NAME,
                        fix="""as in: osmia -e '@tracepoint("sched:sched_process_exec") def ran(r): print(r.pid)'""")
    return unit


def split(text: str) -> str:
    """The program with ends of lines where Python wants them; as long as ``text``, and the same elsewhere.

    Before ``def`` behind a decorator, and between statements where a
    decorator follows.
    """
    import io
    import tokenize

    out = list(text)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    depth, decorated, before, begins = 0, False, None, True
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            at = starts[token.start[0] - 1] + token.start[1]
            if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                begins, decorated = token.type != tokenize.NL or begins, decorated and token.type == tokenize.NL
                continue
            if depth == 0 and token.string == "@" and begins:
                decorated = True
                if before is not None:  # the semicolon
                    out[before] = "\n"
                    _blank(out, before + 1, at)
            elif depth == 0 and decorated and token.string == "@" and out[at - 1] == " ":
                out[at - 1] = "\n"
            elif depth == 0 and decorated and token.string in ("def", "async") and at and out[at - 1].isspace():
                out[at - 1] = "\n"
                decorated = False
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token.string, 0)
            begins = depth == 0 and token.string == ";"
            before = at if begins else None
    except (tokenize.TokenError, SyntaxError):  # what is wrong is said when it is compiled
        pass
    return "".join(out)


def _blank(out: list[str], start: int, end: int) -> None:
    """A statement must not be indented: the blanks in front of it go to the end of the line before."""
    count = end - start
    if count:
        out[start - 1 : end] = [" "] * count + ["\n"]


def _names(code: CodeType) -> dict[str, Any]:
    """Those of the language's names that the program uses: importing all would take longer than compiling."""
    import osmia

    used = set(code.co_names)
    inner = [one for one in code.co_consts if hasattr(one, "co_names")]
    while inner:
        one = inner.pop()
        used |= set(one.co_names)
        inner += [more for more in one.co_consts if hasattr(more, "co_names")]
    found = {name: getattr(osmia, name) for name in osmia.__all__ if name in used}
    return {"__name__": _MODULE, "__builtins__": __builtins__, **found}


def _check_names(lines: str) -> None:
    """Two probes must not have one name: the second would replace the first without a word."""
    import ast

    seen: dict[str, ast.FunctionDef] = {}
    for node in ast.parse(lines).body:
        if isinstance(node, ast.FunctionDef):
            if node.name in seen and node.decorator_list and seen[node.name].decorator_list:
                column = node.col_offset + len("def ")
                raise CompileError(
                    f"there is a function {node.name} already, and this one would replace it", file=NAME,
                    line=node.lineno, column=column, end_column=column + len(node.name),
                    source=lines.split("\n")[node.lineno - 1], fix="give it another name",
                )  # fmt: skip
            seen[node.name] = node


def _no_python(err: SyntaxError | ValueError, lines: str) -> CompileError:
    line = getattr(err, "lineno", 0) or 1
    column = max((getattr(err, "offset", 0) or 1) - 1, 0)
    end = getattr(err, "end_offset", None)
    end = end - 1 if end and getattr(err, "end_lineno", line) == line and end > column + 1 else column + 1
    source = [*lines.split("\n"), ""][min(line - 1, lines.count("\n") + 1)]
    return CompileError(f"not valid Python: {getattr(err, 'msg', err)}", file=NAME, line=line,
                        column=min(column, len(source)), end_column=end, source=source)  # fmt: skip


def _failed(err: Exception, lines: str) -> CompileError:
    """The program's own code failed, before anything was traced: where in it."""
    line, start, end, trace = 1, 0, 0, err.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == NAME:
            line, start, end = trace.tb_lineno, 0, 0
            if hasattr(code, "co_positions"):  # Python 3.11
                places = list(code.co_positions())[trace.tb_lasti // 2]
                if places[0] == places[1] == line and places[2] is not None and places[3] is not None:
                    start, end = places[2], places[3]
        trace = trace.tb_next
    source = lines.split("\n")[line - 1]
    kind = "" if isinstance(err, (NameError, TypeError)) else f"{type(err).__name__}: "
    return CompileError(f"{kind}{err}", file=NAME, line=line, column=start, end_column=end or len(source),
                        source=source, fix=_near(err))  # fmt: skip


def _near(err: Exception) -> str:
    name = getattr(err, "name", None)
    if not isinstance(err, NameError) or not name:
        return ""
    import difflib

    import osmia

    near = difflib.get_close_matches(name, osmia.__all__, 1)
    return f"did you mean {near[0]}?" if near else ""


def _in_place(err: CompileError, text: str) -> CompileError:
    """The same error where it is in the text as it was typed."""
    if err.file != NAME or not 0 < err.line <= split(text).count("\n") + 1:
        return err
    made = split(text).split("\n")
    at = sum(len(line) + 1 for line in made[: err.line - 1]) + err.column
    line = text.count("\n", 0, at) + 1
    start = text.rfind("\n", 0, at) + 1
    column = at - start
    return CompileError(
        err.what, file=NAME, line=line, column=column, end_column=column + max(1, err.end_column - err.column),
        source=text.split("\n")[line - 1] if err.source else "", fix=err.fix, context=err.context,
    )  # fmt: skip
