#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference from the docstrings: every public name with its signature, its text and its example.

    gen_reference.py            write docs/reference/*.md
    gen_reference.py --check    exit 1 if one of them is not what would be written

The page of a name follows from the module that it is defined in, so a new
name needs nothing here.  Examples are taken from ``Example::`` blocks, and
``tests/kernel/test_reference_examples.py`` runs them.  Needs neither root
nor a kernel.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import io
import itertools
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "reference"

#: Page -> its title, the modules whose names are on it in this order, and what it begins with.
PAGES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "types": (
        "Types", ("types",),
        "Types of events, maps and parameters. One declaration gives the layout in the kernel, the decoder on the user "
        "side, columns and JSON.",
    ),
    "maps": (
        "Maps", ("maps", "maps_more", "stacks", "maps_special", "recorder", "pin"),
        "A map is a variable of the module. Kernel functions and the user side use the same object. What the module "
        "puts into it is there when the first probe fires; what depends on options goes into a function under "
        "`before_attach` (see Templates). A pinned map that exists already keeps what it holds.",
    ),
    "histograms": (
        "Histograms", ("hist",),
        "Counted in the kernel, per CPU, with sum, smallest and largest value. Values below zero are in no bucket and "
        "are counted as lost.",
    ),
    "hooks": (
        "Hooks", ("probes", "function_probes", "user_probes"),
        "Decorators that say where a kernel function is attached. All of them take `optional=True` where a signature "
        "shows it: no error, then, where the kernel has no such place. The section is what the ELF object has, so that "
        "other loaders attach it, too. The programs of a module are those among its globals, by name or in a tuple or "
        "a dictionary: those that belong together can be imported from another module under one name.",
    ),
    "builtins": (
        "Built-ins", ("builtins",),
        "What kernel functions may call. Numbers in parentheses are the first kernel that has it; where none is given, "
        "every kernel that osmia runs on does.",
    ),
    "options": (
        "Options and filters", ("options",),
        "Options are parsed, explained by `--help` and handed to the kernel half by osmia.",
    ),
    "templates": (
        "Templates", ("templates", "osmia"),
        "A template says what a tool shows. Without one, `run()` shows everything that the module declares: events as "
        "rows, maps and histograms at the end.",
    ),
}

#: Examples of names that have no room for one in their docstring.
EXAMPLES = {
    "FixedArray": """\
class Read(Event):
    args: FixedArray[u64, 2]

reads = Ring(Read)

@tracepoint("syscalls:sys_enter_read")
def read(call):
    with reads.reserve() as e:
        e.args[0], e.args[1] = call.fd, call.count
""",
    "Bytes": """\
class Connect(Event):
    address: Bytes[16]  # struct sockaddr_in

connects = Ring(Connect)

@tracepoint("syscalls:sys_enter_connect")
def connect(call):
    with connects.reserve() as e:
        e.address = call.uservaddr
""",
    "Kernel": """\
parents = Hash[u32, Kernel["struct task_struct"]]()

@tracepoint("sched:sched_process_exec")
def executed(record):
    parents[current.tgid] = current.task.real_parent
""",
    "Path": """\
class Open(Event):
    path: Path[4096]

opens = Ring(Open)

@tracepoint("syscalls:sys_enter_chdir")
def enter(call):
    with opens.reserve() as e:
        e.path.add(call.filename)
        e.path.add(current.task.fs.pwd.dentry.d_name.name)  # and so on, up to the root
""",
    "open_map": """\
counted = Hash[u32, u64]()

@tracepoint("syscalls:sys_enter_read")
def read(call):
    counted[current.tgid] += 1

def busiest(path="/sys/fs/bpf/counted"):  # where another run keeps a pinned map of this shape
    reads = open_map(Hash[u32, u64](), path)
    return max(reads.items(), key=lambda item: item[1])
""",
    "run": """\
reads = Hash[Comm, u64]()

@tracepoint("syscalls:sys_enter_read")
def read(call):
    reads[current.comm] += 1

run()  # python3 FILE, or: osmia run FILE
""",
}

#: What kernel functions may use of Python itself, besides operators and statements.
PYTHON = {
    "print": "`print(f\"...\")`: one line on the user side, in order; values are sent, the text is put together there",
    "range": "in `for i in range(...)`",
    "len": "of a tuple, a constant text or an array: known when compiling",
    "min": "of two or more numbers",
    "max": "of two or more numbers",
    "abs": "of a number",
    "ord": "of a constant character",
}

#: Variables of the environment that users need rarely; the others are in README.md.
RARE = {
    "OSMIA_LLVM": "`package`: take LLVM from the llvmlite package, not directly from its library",
}

#: Classes that are not made by name, but whose methods users call: page -> heading, module, class.
RETURNED = {
    "maps": (
        ("What all dictionaries have", "osmia.lang.maps", "Map"),
        ("Snapshots", "osmia.lang.snapshots", "Snapshot"),
    ),
    "histograms": (
        ("What all histograms have", "osmia.lang.hist", "Hist"),
        ("Snapshots", "osmia.lang.hist", "Snapshot"),
    ),
    "options": (("What an option takes", "osmia.lang.options", "Option"),),
}

#: Methods that are public for osmia's other folders, and nothing to authors.
INNER = frozenset(("annotated", "bits", "fill", "jump", "layout", "live", "of", "prefix", "set", "show", "shown",
                   "slot", "stored", "typed"))  # fmt: skip
_VERSION = re.compile(r"(?<![\w.])([3-9]\.\d{1,2})(?![\w.]*\d)")


# --------------------------------------------------------------------------
# What the package says of itself


def public() -> dict[str, Any]:
    """Every public name and its object; the version, which is only a text, is on the first page."""
    osmia = importlib.import_module("osmia")
    return {name: getattr(osmia, name) for name in osmia.__all__ if name != "__version__"}


def described(name: str, item: Any) -> Any:
    """What carries the documentation of ``item``: a built-in's Python function, an instance's class."""
    if hasattr(item, "python"):
        return item.python
    return type(item) if not inspect.isclass(item) and not inspect.isfunction(item) else item


def docstring(name: str, item: Any) -> str:
    """The cleaned docstring; that of a variable is the text behind its assignment."""
    if isinstance(item, int):
        return ""
    module = sys.modules.get(getattr(item, "__module__", ""), None)
    if module is not None and inspect.isclass(item) and item.__name__ != name and hasattr(module, name):
        body = ast.parse(inspect.getsource(module)).body
        for one, after in itertools.pairwise(body):
            target = getattr(one, "target", None)
            if isinstance(target, ast.Name) and target.id == name and isinstance(after, ast.Expr):
                return inspect.cleandoc(str(ast.literal_eval(after.value)))
    text = inspect.cleandoc(described(name, item).__doc__ or "")
    own = getattr(item, "__name__", name)  # of a class that is public under another name
    return text.replace(f"``{own}[", f"``{name}[") if inspect.isclass(item) and own != name else text


def page_of(name: str, item: Any) -> str:
    """The page that ``name`` belongs on; plain numbers are what hooks return."""
    if isinstance(item, int):
        return "hooks"
    module = described(name, item).__module__
    stem = module.rpartition(".")[2]
    for page, (_, stems, _) in PAGES.items():
        if stem in stems:
            return page
    if stem.endswith("_probes"):
        return "hooks"
    raise SystemExit(f"{name} is defined in {module}, which belongs to no page: add it to PAGES")


def example_of(name: str, item: Any) -> str:
    """The code of its example; empty where it has none."""
    if name in EXAMPLES:
        return EXAMPLES[name].strip("\n")
    return textwrap.dedent(docstring(name, item).partition("Example::\n")[2]).strip("\n")


def examples() -> dict[str, str]:
    """Every public name that has an example, and its code."""
    found = {name: example_of(name, item) for name, item in public().items()}
    return {name: code for name, code in found.items() if code}


def with_imports(code: str) -> str:
    """``code`` after the import of the names that it uses."""
    names = set(public())
    tree = ast.parse(code)
    used = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & names,
                  key=lambda name: (not name.isupper(), not name[0].isupper(), name))  # fmt: skip
    line = f"from osmia import {', '.join(used)}"
    if len(line) > 88:
        line = "from osmia import (\n" + textwrap.fill(", ".join(used), 84, initial_indent="    ",
                                                       subsequent_indent="    ") + ",\n)"  # fmt: skip
    return f"{line}\n\n{code}"


def first_version(text: str) -> str:
    """The first kernel version that a docstring names."""
    found = _VERSION.search(text.partition("Example::")[0])
    return found[1] if found else ""


def hook_sections(code: str, decorator: str) -> list[str]:
    """The ELF sections of the functions in an example that are under ``decorator``, by running it."""
    probes = importlib.import_module("osmia.lang.probes")
    space: dict[str, Any] = {**public(), "__name__": "example"}
    exec(compile(code, "example", "exec", dont_inherit=True), space)
    under = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)
             and any(isinstance(part, ast.Name) and part.id == decorator
                     for one in node.decorator_list for part in ast.walk(one))]  # fmt: skip
    progs = [space[name] for name in under if isinstance(space[name], probes.Prog)]
    return list({hook.section: None for one in progs for hook in one.hooks})


# --------------------------------------------------------------------------
# Markdown


def prose(text: str) -> str:
    """A docstring without its example as Markdown."""
    text = text.partition("Example::")[0].rstrip()
    out: list[str] = []
    for block in re.split(r"\n\n+", text):
        if block.startswith("    "):
            out.append(f"```python\n{textwrap.dedent(block)}\n```")
            continue
        block = re.sub(r":\w+:`[~!]?([^`]+)`", lambda m: f"`{m[1].removeprefix('osmia.')}`", block)
        block = re.sub(r"``(.+?)``", r"`\1`", block, flags=re.S)
        out.append(re.sub(r"::$", ":", block))
    return "\n\n".join(out)


def first_paragraph(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(prose(text).partition("\n\n")[0].split())


def signature(name: str, item: Any) -> str:
    """How it is called, as one line of Python; a type that is written in brackets says so itself."""
    about = described(name, item)
    if about is not item and not hasattr(item, "python"):
        return name
    if inspect.isclass(about):
        spelled = re.match(r"``(\w+[(\[].*?)``[ :]", docstring(name, item))
        if spelled or hasattr(about, "typed") or not inspect.isfunction(about.__init__):
            return spelled[1] if spelled else name
        about = about.__init__
    shown = inspect.signature(about)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in shown.parameters.values()
                  if one.name != "self"]  # fmt: skip
    text = f"{name}{shown.replace(parameters=parameters, return_annotation=inspect.Signature.empty)}"
    return re.sub(r"<class '(\w+)'>", r"\1", text)


def methods(kind: type) -> list[str]:
    """A line for each method that ``kind`` adds."""
    out = []
    for name, item in vars(kind).items():
        item = item.fget if isinstance(item, property) else item
        if name.startswith("_") or name in INNER or not inspect.isfunction(item) or not item.__doc__:
            continue
        call = name if isinstance(vars(kind)[name], property) else signature(name, item)
        out.append(f"- `.{call}`: {first_paragraph(inspect.cleandoc(item.__doc__))}")
    return out


def entry(name: str, item: Any, page: str) -> list[str]:
    """The section of one name."""
    text, code = docstring(name, item), example_of(name, item)
    out = [f"## {name}", "", f"`{signature(name, item)}`", ""]
    sections = hook_sections(code, name) if page == "hooks" and code else []
    if sections:
        since = first_version(text)
        out += [f"Section: {', '.join(f'`{one}`' for one in sections)}." + (f" Kernel: {since}." if since else ""), ""]
    if text:
        out += [prose(text), ""]
    listed = methods(described(name, item)) if inspect.isclass(described(name, item)) else []
    if listed:
        out += [*listed, ""]
    if code:
        out += ["```python", with_imports(code), "```", ""]
    return out


def integers() -> list[str]:
    """The table of the numbers of fixed width."""
    out = ["## Numbers", "", "| type | meaning | bytes |", "|---|---|---|"]
    for name, item in public().items():
        if hasattr(item, "code"):
            out.append(f"| `{name}` | {prose(inspect.cleandoc(item.__doc__)).rstrip('.').lower()} | {item.size} |")
    return [*out, "",
            "`int` is 64 bits wide and signed, `bool` takes one byte, an `enum.IntEnum` four. Called, a type",
            "wraps a number to its width: `u32(-1) == 4294967295`, in the kernel as in Python.", ""]  # fmt: skip


def overview(names: list[tuple[str, Any]]) -> list[str]:
    """The table of all hooks."""
    out = ["| hook | section | kernel | attached to |", "|---|---|---|---|"]
    for name, item in names:
        text, code = docstring(name, item), example_of(name, item)
        if not code or not inspect.isfunction(item) or name in ("first_of", "tail_program"):
            continue
        section = hook_sections(code, name)[0]
        sentence = re.sub(r" \((?:BTF|BPF_\w+)?[;, ]*[\d.]+\)", "", first_paragraph(text))
        sentence = re.split(r"\.(?= |$)|: |:$|; ", sentence)[0]
        out.append(f"| [`{name}`](#{name}) | `{section}` | {first_version(text) or '—'} | {sentence} |")
    return [*out, ""]


def written(page: str) -> str:
    """One page of names."""
    title, stems, intro = PAGES[page]
    names = [(name, item) for name, item in public().items() if page_of(name, item) == page]

    def place(pair: tuple[str, Any]) -> tuple[int, str, int]:
        about = described(*pair)
        stem = about.__module__.rpartition(".")[2]
        return (stems.index(stem) if stem in stems else len(stems), stem, inspect.getsourcelines(about)[1])

    with_source = [pair for pair in names if anchor(pair[0]) == pair[0].lower() and pair[0] != "Comm"]
    with_source.sort(key=place)
    if page == "types":
        with_source += [pair for pair in names if pair[0] == "Comm"]
    out = [f"# {title}", "", *textwrap.wrap(intro, 100), ""]
    if page == "types":
        out += integers()
    if page == "hooks":
        out += overview(with_source)
        numbers = [f"`{name}` is {item}" for name, item in names if isinstance(item, int)]
        text = f"What functions that see packets may return: {', '.join(numbers)}."
        out += ["## Constants", "", *textwrap.wrap(text, 100), ""]
    for heading, module, kind in RETURNED.get(page, ()):
        found = getattr(importlib.import_module(module), kind)
        out += [f"## {heading}", "", prose(inspect.cleandoc(found.__doc__)), "", *methods(found), ""]
    for name, item in with_source:
        out += entry(name, item, page)
    if page == "builtins":
        out += ["## Python's own", "", *(f"- `{name}`: {text}" for name, text in PYTHON.items()), ""]
    if page == "options":
        out += filters()
    return finished(out)


def filters() -> list[str]:
    """The shared filters."""
    module = importlib.import_module("osmia.lang.filters")
    usage = importlib.import_module("osmia.cli.args").usage_of
    kind = importlib.import_module("osmia.lang.options").Option
    out = ["## Filters", "", prose(inspect.cleandoc(module.__doc__ or "")), "", "| name | option | meaning |",
           "|---|---|---|"]  # fmt: skip
    for name, item in vars(module).items():
        if isinstance(item, kind) and item.flags[0].startswith("-"):  # others are set by osmia itself
            out.append(f"| `{name}` | `{usage(item, list(item.flags))}` | {item.help} |")
    return [*out, "", "```python", FILTERED, "```", "", *numbers()]


def numbers() -> list[str]:
    """How processes are shown by the numbers that people know."""
    module = importlib.import_module("osmia.lang.pidns")
    doc = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[2]
    out = ["## Numbers in rows", "", prose(doc), "", "| function of `osmia.lang.pidns` | what it gives |", "|---|---|"]
    for name, item in vars(module).items():
        if inspect.isfunction(item) and item.__module__ == module.__name__:
            text = prose(inspect.cleandoc(item.__doc__ or "").partition("\n")[0])
            parameters = ", ".join(inspect.signature(item).parameters)
            out.append(f"| `{name}({parameters})` | {text} |")
    return [*out, "", "```python", NUMBERED, "```", ""]


NUMBERED = '''\
from osmia import Hash, run, tp_btf, u32, u64
from osmia.lang.filters import pid, wanted_task  # noqa: F401 - an option
from osmia.lang.pidns import process_id

woken = Hash[u32, u64]()

@tp_btf("sched_wakeup")
def wakeup(task):
    if wanted_task(task):
        woken[process_id(task)] += 1

run()'''


FILTERED = '''\
from osmia import Hash, current, run, tracepoint, u32, u64
from osmia.lang.filters import pid, uid, wanted  # noqa: F401 - options

reads = Hash[u32, u64]()

@tracepoint("syscalls:sys_enter_read")
def read(call):
    if wanted():
        reads[current.tgid] += 1

run()'''


# --------------------------------------------------------------------------
# The command line


def said(words: list[str]) -> str:
    """What the command ``words`` prints."""
    commands = importlib.import_module("osmia.cli.commands")
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        commands.run(words[0], words[1:], False)
    return text.getvalue().rstrip()


def common_options() -> list[str]:
    """The options that every tool has."""
    usage = importlib.import_module("osmia.cli.args").usage_of
    common = importlib.import_module("osmia.cli.common").Common()
    kind = importlib.import_module("osmia.lang.options").Option
    out = ["| option | meaning |", "|---|---|"]
    for item in vars(common).values():
        if isinstance(item, kind):
            shown = usage(item, list(item.flags)) if item.flags[0].startswith("-") else f"[{item.flags[0]}]"
            out.append(f"| `{shown}` | {item.help} |")
    return [*out, "| `-h, --help` | help, ending in examples |", ""]


def exit_statuses() -> list[str]:
    """The table of exit statuses, which the man pages have, too."""
    path = Path(__file__).with_name("gen_man.py")
    spec = importlib.util.spec_from_file_location("gen_man", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return ["| exit status | meaning |", "|---|---|", *(f"| {n} | {text} |" for n, text in module.EXIT_STATUS.items())]


def command_line() -> str:
    """The page of the ``osmia`` command."""
    catalog = importlib.import_module("osmia.cli.catalog")
    out = ["# Command line", "",
           "`osmia TOOL [options] [interval [count]]` or `osmia COMMAND [options]`.", "", *exit_statuses(), "",
           "## Options of every tool", "",
           "A tool's own options come first; `--ring-size` is there where it sends events, interval and count where it",
           "shows summaries. The filters are on [another page](options.md#filters).", ""]  # fmt: skip
    out += common_options()
    for name, text in catalog.COMMANDS.items():
        out += [f"## osmia {name}", "", f"{text[0].upper()}{text[1:]}.", "", "```text", said([name, "--help"]), "```",
                ""]  # fmt: skip
    out += ["## Tools", "", "| tool | what it shows |", "|---|---|"]
    out += [f"| [{name}](../tools/{name}.md) | {catalog.title(name)} |" for name in catalog.names()]
    return finished(out)


def environment() -> str:
    """The page of the environment variables: README's table, and what only developers need."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Environment")[2].partition("\n## ")[0]
    rows = [line for line in readme.splitlines() if line.startswith("|")]
    rows += [f"| `{name}` | {text} |" for name, text in RARE.items()]
    return finished(["# Environment variables", "", *rows, ""])


def index() -> str:
    """The first page: where everything is."""
    out = ["# Reference", "", "Generated from the docstrings by `scripts/gen_reference.py`. `from osmia import NAME`",
           "gives every name here. An example becomes a program with `run()` at its end.", "",
           "| page | names |", "|---|---|"]  # fmt: skip
    names = {name: page_of(name, item) for name, item in public().items()}
    for page, (title, _, _) in PAGES.items():
        links = ", ".join(f"[`{name}`]({page}.md#{anchor(name)})" for name in names if names[name] == page)
        out.append(f"| [{title}]({page}.md) | {links} |")
    out += ["| [Command line](command-line.md) | the `osmia` command |",
            "| [Environment variables](environment.md) | `OSMIA_CACHE` and others |", "",
            "`osmia.__version__` is the version of osmia.", "",
            "Coming from [bcc](../coming-from-bcc.md), from [bpftrace](../coming-from-bpftrace.md).", ""]  # fmt: skip
    return finished(out)


def anchor(name: str) -> str:
    """What a page's heading for ``name`` is called in a link."""
    item = public()[name]
    return "numbers" if hasattr(item, "code") else "constants" if isinstance(item, int) else name.lower()


def finished(lines: list[str]) -> str:
    """The text of a page."""
    mark = "<!-- Generated by scripts/gen_reference.py from the docstrings; do not edit. -->\n\n"
    return mark + "\n".join(lines).rstrip() + "\n"


def made() -> dict[Path, str]:
    """Every file and its text."""
    out = {OUT / f"{page}.md": written(page) for page in PAGES}
    out[OUT / "README.md"] = index()
    out[OUT / "command-line.md"] = command_line()
    out[OUT / "environment.md"] = environment()
    return out


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    if arguments and not check:
        sys.stderr.write((__doc__ or "") + os.linesep)
        return 2
    texts = made()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in OUT.glob("*.md") if path not in texts]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.stderr.write(f"not current: {names}; run scripts/gen_reference.py\n")
        return 1
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in texts:
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
