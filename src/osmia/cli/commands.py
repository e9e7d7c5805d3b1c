# SPDX-License-Identifier: Apache-2.0
"""The commands that are no tools: list, doctor, compile, run, links, help, and programs on the command line."""

from __future__ import annotations

import os
import sys

from osmia.cli import catalog
from osmia.cli.args import HelpAsked, Parser
from osmia.errors import NotFound, OptionError, OsmiaError, UserError
from osmia.lang.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.lang.unit import Unit

STAGES = ("typed", "ir", "asm", "btf")


def run(command: str, words: list[str], exiting: bool) -> int:
    """Run one of :data:`osmia.cli.catalog.COMMANDS`, ``-e``, ``--version`` or ``--help``; the exit status."""
    if command in ("--version", "-V"):
        from osmia.version import __version__

        sys.stdout.write(f"osmia {__version__}\n")
        return 0
    if command in ("-h", "--help"):
        return _help([])
    if command.startswith("-e"):
        from osmia.cli import oneliner

        return oneliner.run([command[2:], *words] if len(command) > 2 else words, exiting)
    if command.startswith("-"):
        raise OptionError(f"unknown option {command}", fix="options come after the tool: osmia TOOL [options]")
    if command == "run":
        return _run(words, exiting)
    if command == "record":
        return _record(words, exiting)
    actions = {
        "list": _list, "doctor": _doctor, "compile": _compile, "flame": _flame, "links": _links, "help": _help,
        "replay": _replay, "bench": _bench,
    }  # fmt: skip
    return actions[command](words)


def _flame(words: list[str]) -> int:
    from osmia.cli import flame

    if not parse(flame.parser(), words):
        flame.run()
    return 0


def _bench(words: list[str]) -> int:
    from osmia.cli import bench

    options = bench.Options()
    parser = options.parser()
    try:
        parser.parse(words)
    except HelpAsked:
        parse(options.parser(shown=True), ["-h"])
        return 0
    bench.run(options, parser.rest)
    return 0


def _record(words: list[str], exiting: bool) -> int:
    from osmia.cli import record

    if not words or words[0] in ("-h", "--help"):
        parse(record.Options().parser(shown=True), ["-h"])
        return 0 if words else 2
    try:
        return record.run(words, exiting)
    except HelpAsked:
        parse(record.Options().parser(shown=True), ["-h"])
        return 0


def _replay(words: list[str]) -> int:
    from osmia.cli import replay

    return replay.run(words)


def parse(parser: Parser, words: list[str]) -> bool:
    """Parse ``words`` by the parser of a command; True if help was asked for and given."""
    try:
        parser.parse(words)
    except HelpAsked:
        from osmia.cli.helptext import argument_lines, examples, option_lines, synopsis

        out = f"usage: {synopsis(parser)}\n\n{catalog.COMMANDS[parser.program]}\n"
        if parser.arguments:
            out += "\narguments:\n" + "\n".join(argument_lines(one) for one in parser.arguments) + "\n"
        if parser.shown:
            out += "\noptions:\n" + "\n".join(option_lines(one, flags) for one, flags in parser.shown.items()) + "\n"
        text = examples(parser.program)
        sys.stdout.write(out + (f"\nexamples:\n{text}" if text else ""))
        return True
    return False


def _list(words: list[str]) -> int:
    about = Option("--for", type=str, metavar="WORDS",
                   help="only the tools that are about this, best first: osmia list --for slow disk")  # fmt: skip
    as_json = Option("--json", help="one JSON object a line")
    more = Option("words", type=list, help="more words of --for")
    parser = Parser("list", [about, as_json, more])
    if parse(parser, words):
        return 0
    if about.given:
        from osmia.cli import finding

        text = " ".join([about.value, *(more.value or [])])
        sys.stdout.write(finding.records(text) if as_json else finding.listing(text))
        return 0
    if more.given:
        raise OptionError(f"unexpected argument {more.value[0]!r}", where="list",
                          fix=f"osmia list --for {' '.join(more.value)} looks for tools about that")  # fmt: skip
    if as_json:
        from osmia.views.machine import json_line

        for subject, members in catalog.by_subject(catalog.names()):
            for name in members:
                sys.stdout.write(json_line({"name": name, "subject": subject, "title": catalog.title(name)}) + "\n")
        return 0
    sys.stdout.write(catalog.listing())
    return 0


def _help(words: list[str]) -> int:
    about = Option("name", type=str, help="a tool or a command")
    if parse(Parser("help", [about]), words):
        return 0
    if not about.given:
        from osmia.cli.helptext import main_help

        sys.stdout.write(main_help())
        return 0
    from osmia.cli.main import main

    if about.value not in catalog.COMMANDS and not catalog.exists(about.value):
        raise catalog.unknown(about.value)
    return main([about.value, "--help"])


def _doctor(words: list[str]) -> int:
    as_json = Option("--json", help="one JSON object a line")
    if parse(Parser("doctor", [as_json]), words):
        return 0
    from osmia.cli import doctor

    return doctor.show(bool(as_json))


def _links(words: list[str]) -> int:
    directory = Option("directory", type=str, metavar="DIR", help="where to put them; it is made if need be")
    if parse(Parser("links", required=[directory]), words):
        return 0
    target = _own_command()
    place = directory.value
    made = 0
    try:
        os.makedirs(place, exist_ok=True)
        for name in catalog.names():
            made += _link(target, os.path.join(place, name))
    except OSError as err:
        raise UserError(f"cannot make the links: {err.strerror}", where=str(err.filename or place)) from None
    sys.stdout.write(f"{made} commands in {place}; put it on your PATH\n")
    return 0


def _own_command() -> str:
    """The ``osmia`` script that is running, or the one beside the interpreter."""
    for path in (os.path.abspath(sys.argv[0]), os.path.join(os.path.dirname(sys.executable), "osmia")):
        if os.path.basename(path) == "osmia" and os.path.isfile(path):
            return os.path.realpath(path)
    raise NotFound("the osmia command itself is not installed", fix="install osmia, or run bin/osmia of a checkout")


def _link(target: str, path: str) -> int:
    """Make one link; a link of the same name is replaced, a file never."""
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.exists(path):
        raise OptionError("there is a file of that name already", where=path, fix="choose an empty directory")
    os.symlink(target, path)
    return 1


def load_file(path: str, module_name: str) -> dict[str, Any]:
    """Execute a Python file as the module ``module_name``; its globals.

    UserError when it cannot be read, is not Python or does not run.
    """
    full = os.path.abspath(path)
    try:
        with open(full, "rb") as file:
            source = file.read()
    except OSError as err:
        raise NotFound(f"cannot read it: {err.strerror}", where=path) from None
    try:
        code = compile(source, full, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as err:
        line = getattr(err, "lineno", 0) or 0
        raise UserError(f"not valid Python: {getattr(err, 'msg', err)}", where=f"{path}:{line}") from None
    if sys.flags.no_site:  # osmia's own launcher does without; a user's file may need what site sets up
        import site

        site.main()
    module = type(sys)(module_name)
    module.__file__ = full
    sys.modules[module_name] = module
    sys.path.insert(0, os.path.dirname(full))
    try:
        exec(code, module.__dict__)
    except Exception as err:
        if isinstance(err, (OsmiaError, BrokenPipeError)) or os.environ.get("OSMIA_DEBUG") == "1":
            raise
        raise UserError(f"{type(err).__name__}: {err}", where=f"{path}:{_line_in(full, err)}",
                        fix="OSMIA_DEBUG=1 shows the traceback") from None  # fmt: skip
    return module.__dict__


def _line_in(path: str, err: BaseException) -> int:
    """The line of ``path`` that was being executed when ``err`` was raised."""
    line, trace = 0, err.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def run_parser() -> Parser:
    """The command line of ``osmia run``, for its help: what stands behind the file is the file's own."""
    file = Option("file", type=str, metavar="FILE", help="a Python file with kernel functions")
    program = Option("-e", type=str, metavar="PROGRAM", help="a program, in place of a file; also as osmia -e PROGRAM")
    return Parser("run", [program], required=[file], rest=True)


def _run(words: list[str], exiting: bool) -> int:
    """As ``python FILE``, but ``run()`` at its end may be missing."""
    if not words or words[0] in ("-h", "--help"):
        parse(run_parser(), ["-h"])
        return 0 if words else 2
    path, rest = words[0], words[1:]
    if path.startswith("-e"):
        return run(path, rest, exiting)
    if path.startswith("-"):
        raise OptionError(f"unknown option {path}", where="run", fix="osmia run FILE [the file's own options]")
    from osmia.cli import main

    before, sys.argv = sys.argv, [path, *rest]
    try:
        namespace = load_file(path, "__main__")  # ends in SystemExit if the file calls run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return main.run_module(namespace, rest, exiting=exiting)


def _compile(words: list[str]) -> int:
    what = Option("what", type=str, metavar="FILE|TOOL", help="a Python file, or the name of a tool")
    output = Option("-o", "--output", type=str, metavar="OBJ", help="where the object goes")
    dump = Option("--dump", type=str, metavar="STAGE", choices=STAGES, help="print a stage of the compilation")
    btf = Option("--btf", type=str, metavar="FILE", help="take the kernel's types from this file")
    if parse(Parser("compile", [output, dump, btf], required=[what]), words):
        return 0
    if not (output.given or dump.given):
        raise OptionError("nothing to do", where="compile", fix="say where the object goes: -o OBJ, or --dump STAGE")
    if btf.given:
        from osmia.kernel import btf_source

        btf_source.use(os.path.abspath(btf.value))
    unit = unit_of(what.value)
    if unit.template is not None and unit.template.declares is not None:
        raise OptionError(f"the programs of {unit.name} depend on its command line, so there is no object of it",
                          where="compile", fix=f"run it: osmia {unit.name} --help")  # fmt: skip
    if dump.given:
        sys.stdout.write(_dump(unit, dump.value))
    if output.given:
        from osmia.cli.objects import compile_now

        _write(output.value, compile_now(unit)[0])
    return 0


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as err:
        raise UserError(f"cannot write it: {err.strerror}", where=path) from None


def unit_of(what: str) -> Unit:
    """The tool of that name, or what a Python file declares.  Raises UserErrors."""
    from osmia.cli.main import tool_unit
    from osmia.lang.unit import Unit

    if catalog.exists(what) and not os.path.exists(what):
        return tool_unit(what)
    if not os.path.exists(what) and os.sep not in what and not what.endswith(".py"):
        raise catalog.unknown(what)
    name = os.path.basename(what).removesuffix(".py")
    return Unit(name, load_file(what, name if name.isidentifier() and name not in sys.modules else "osmia_file"))


def _dump(unit: Unit, stage: str) -> str:
    from osmia.cli.objects import module_source, tracepoint_source
    from osmia.compiler.stages import dump
    from osmia.kernel import btf_source

    text: str = dump(unit, stage, btf=btf_source.kernel_btf(), tracepoint_format=tracepoint_source([]),
                     module_types=module_source([]))  # fmt: skip
    return text if text.endswith("\n") else text + "\n"

