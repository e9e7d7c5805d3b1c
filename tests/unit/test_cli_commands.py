# SPDX-License-Identifier: Apache-2.0
"""The ``osmia`` command as people start it, where neither root nor a kernel is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from osmia.cli import catalog
from osmia.version import __version__

SRC = Path(__file__).resolve().parents[2] / "src"


def osmia(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "osmia.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(SRC), **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_version() -> None:
    done = osmia("--version")
    assert (done.returncode, done.stdout) == (0, f"osmia {__version__}\n")


def test_without_arguments_it_shows_the_help_and_fails() -> None:
    done = osmia()
    assert done.returncode == 2
    assert done.stdout.startswith("usage: osmia TOOL [options] [interval [count]]\n")
    assert osmia("help").stdout == osmia("--help").stdout == done.stdout


def test_list_names_every_tool_once_with_its_title() -> None:
    done = osmia("list")
    lines = done.stdout.splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.startswith("  ")]
    assert sorted(row[0] for row in rows) == catalog.names()
    assert {"opensnoop", "execsnoop", "biolatency", "runqlat"} <= set(catalog.names())
    assert all(len(row) == 2 and row[1] == catalog.title(row[0]) for row in rows)
    subjects = [line for line in lines if line and not line.startswith(" ")]
    assert subjects == [s for s in (*catalog.SUBJECTS, "Other") if s in subjects]
    records = [json.loads(line) for line in osmia("list", "--json").stdout.splitlines()]
    assert {record["name"] for record in records} == set(catalog.names())


def test_the_title_is_read_as_python_reads_it() -> None:
    import importlib

    for name in catalog.names():
        doc = importlib.import_module(f"osmia.tools.{name}").__doc__
        assert doc is not None
        assert catalog.title(name) == doc.strip().splitlines()[0].removesuffix(".")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["openspoon"], 1, "there is no tool or command 'openspoon'; did you mean opensnoop?"),
        (["zzz"], 1, "there is no tool or command 'zzz'; osmia list shows the tools"),
        (["x\x1b[2J"], 1, "there is no tool or command 'x\\x1b[2J'; osmia list shows the tools"),
        (["../cli/main"], 1, "there is no tool or command '../cli/main'; osmia list shows the tools"),
        (["_paths"], 1, "there is no tool or command '_paths'; osmia list shows the tools"),
        (["--frob"], 2, "unknown option --frob; options come after the tool: osmia TOOL [options]"),
        (["list", "x"], 2, "list: unexpected argument 'x'; osmia list --for x looks for tools about that"),
        (["opensnoop", "--pidd", "1"], 2, "opensnoop: unknown option --pidd; did you mean --pid?"),
        (["opensnoop", "-p", "abc"], 2, "opensnoop: option -p: 'abc' is no process id"),
        (["opensnoop", "-p", "4194305"], 2, "opensnoop: option -p: there is no process 4194305"),
        (["opensnoop", "--cgroup", "no/such"], 2, "opensnoop: option --cgroup: 'no/such' is no cgroup (v2)"),
        (["opensnoop", "--json", "--csv"], 2, "opensnoop: --json and --csv exclude each other"),
        (["opensnoop", "-d", "x"], 2, "opensnoop: option -d: 'x' is not a number of seconds"),
        (["opensnoop", "--ring-size", "3K"], 2,
         "opensnoop: option --ring-size: 3K is not a power of two from 4K to 2G"),
        (["opensnoop", "1"], 2, "opensnoop: unexpected argument '1'; see osmia opensnoop --help"),
        (["runqlat", "0"], 2, "runqlat: interval: 0 is not a time: more than 0 seconds is needed"),
        (["runqlat", "1", "x"], 2, "runqlat: count: 'x' is not a whole number from 1"),
        (["compile", "opensnoop"], 2,
         "compile: nothing to do; say where the object goes: -o OBJ, or --dump STAGE"),
        (["compile", "opensnoop", "--dump", "irr"], 2, "compile: option --dump: there is no 'irr'; did you mean ir?"),
        (["compile", "opensnop", "-o", "x.o"], 1, "there is no tool or command 'opensnop'; did you mean opensnoop?"),
        (["compile", "no/such.py", "-o", "x.o"], 1, "no/such.py: cannot read it: No such file or directory"),
        (["compile"], 2, "compile: FILE|TOOL is missing"),
        (["run", "no/such.py"], 1, "no/such.py: cannot read it: No such file or directory"),
        (["run", "-x"], 2, "run: unknown option -x; osmia run FILE [the file's own options]"),
        (["links"], 2, "links: DIR is missing"),
        (["help", "opensnopp"], 1, "there is no tool or command 'opensnopp'; did you mean opensnoop?"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(words: list[str], status: int, sentence: str) -> None:
    done = osmia(*words)
    assert done.stderr == f"osmia: {sentence}\n"
    assert (done.returncode, done.stdout) == (status, "")


def test_a_file_that_is_not_python(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def x(:\n")
    done = osmia("run", str(file))
    assert done.stderr == f"osmia: {file}:1: not valid Python: invalid syntax\n"
    assert done.returncode == 1


def test_a_file_that_fails_says_where(tmp_path: Path) -> None:
    file = tmp_path / "fails.py"
    file.write_text("from osmia.lang.types import Array, u64\n\n\ndef values():\n    return Array[u64]\n\n\nvalues()\n")
    done = osmia("run", str(file))
    said = "TypeError: an array of values has a type and a number: Array[u64, 4]; the map is osmia.Array"
    assert done.stderr == f"osmia: {file}:5: {said}; OSMIA_DEBUG=1 shows the traceback\n"
    assert done.returncode == 1
    file.write_text("import nothing_of_this_name\n")
    assert f"{file}:1: ModuleNotFoundError" in osmia("compile", str(file), "-o", "x.o").stderr


def test_a_file_without_kernel_functions(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n")
    done = osmia("run", str(file))
    assert done.stderr == f"osmia: {file}: there is no kernel function in it; decorate one: @tracepoint(...)\n"


def test_an_unexpected_error_is_one_line_too() -> None:
    code = (
        "import osmia.cli.catalog as c, osmia.cli.main as m\n"
        "c.exists = lambda name: [][1]\n"
        "raise SystemExit(m.main(['x']))\n"
    )
    said = {}
    for debug in "01":
        env = {**os.environ, "PYTHONPATH": str(SRC), "OSMIA_DEBUG": debug}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        said[debug] = done.returncode, done.stderr
    assert said["0"] == (70, "osmia: internal error: IndexError: list index out of range; "
                         "please report it (OSMIA_DEBUG=1 shows the traceback)\n")  # fmt: skip
    assert "Traceback" in said["1"][1]


@pytest.mark.parametrize("name", catalog.names())
def test_help_of_every_tool(name: str) -> None:
    done = osmia(name, "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"usage: osmia {name}")
    assert lines[2].removesuffix(".") == catalog.title(name)
    assert "common options:" in lines
    assert osmia("help", name).stdout == done.stdout
    assert osmia(name, "-h").stdout == done.stdout


def test_help_of_every_command() -> None:
    for name, text in catalog.COMMANDS.items():
        done = osmia(name, "--help")
        assert done.returncode == 0, name
        assert done.stdout.startswith(f"usage: osmia {name}"), name
        assert text in done.stdout


def test_links(tmp_path: Path) -> None:
    command = tmp_path / "osmia"
    command.write_text(f"#!{sys.executable}\nfrom osmia.cli.main import entry\n\nentry()\n")
    command.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    place = tmp_path / "bin"
    for _ in range(2):  # a second time replaces the links
        done = subprocess.run([command, "links", str(place)], env=env, capture_output=True, text=True, check=True)
        assert done.stdout == f"{len(catalog.names())} commands in {place}; put it on your PATH\n"
    assert sorted(os.listdir(place)) == catalog.names()
    shown = subprocess.run([place / "opensnoop", "--help"], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout == osmia("opensnoop", "--help").stdout
    (place / "runqlat").unlink()
    (place / "runqlat").write_text("mine")
    done = subprocess.run([command, "links", str(place)], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == f"osmia: {place}/runqlat: there is a file of that name already; choose an empty directory\n"
    assert (place / "runqlat").read_text() == "mine"


def test_nothing_slow_is_imported_on_the_way_to_a_tool() -> None:
    """Every one of these takes one to ten of the 25 milliseconds."""
    slow = {"argparse", "ast", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "inspect",
            "json", "logging", "pathlib", "random", "re", "subprocess", "tempfile", "typing"}  # fmt: skip
    code = (
        "import sys; before = set(sys.modules); import osmia.cli.main as m, osmia.cli.session, osmia.cli.templates, "
        "osmia.cli.table, osmia.events.decode, osmia.link.tracepoint, osmia.link.detach; m.tool_unit('opensnoop'); "
        "print(*sorted(set(sys.modules) - before))"
    )
    # Without site: what the environment's start-up hooks import is not ours.
    done = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert not slow & set(done.stdout.split())
