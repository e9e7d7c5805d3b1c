# SPDX-License-Identifier: Apache-2.0
"""bashreadline against shells on terminals of their own, in which lines are entered."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Tool, osmia
from patience import patient

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) ?(.*)$")
BASH = "/bin/bash"
#: What a program does that has readline() from the library: as a bash that is built so does.
PROGRAM = """
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
lib.readline.restype = ctypes.c_void_p
while lib.readline(b"READY "):
    pass
"""


class Shell:
    """An interactive program on a terminal, which prompts with READY; ``enter`` returns when it does so again."""

    def __init__(self, *command: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            env = {**os.environ, "PS1": "READY ", "TERM": "dumb", "HISTFILE": ""}
            try:
                os.execve(command[0], list(command), env)
            finally:
                os._exit(127)
        self._until_ready()

    def _until_ready(self) -> None:
        seen, end = b"", time.monotonic() + patient(20)
        while not seen.endswith(b"READY "):
            assert select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0], seen
            seen += os.read(self.fd, 65536)

    def enter(self, line: str) -> None:
        os.write(self.fd, line.encode() + b"\n")
        self._until_ready()

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def bash(program: str = BASH) -> Shell:
    return Shell(program, "--norc", "--noprofile", "-i")


@pytest.fixture
def shell() -> Iterator[Shell]:
    with bash() as one:
        yield one


def rows(tool: Tool) -> list[tuple[int, str]]:
    """PID and COMMAND of all rows."""
    assert (tool.status, tool.stderr) == (0, "")
    heading, *lines = tool.stdout.splitlines()
    assert heading.split() == ["TIME", "PID", "COMMAND"]
    found = [ROW.match(line) for line in lines]
    assert all(found), tool.stdout
    return [(int(row[2]), row[3].strip()) for row in found if row]


LINES = ["echo one", "", "false # 'two'", "  ls /no/such 2>/dev/null", "true; true", "x=$(echo ä)", ": " + "y" * 700]


def test_every_line_has_a_row(shell: Shell) -> None:
    """Also the first one, for which the shell has waited since before the trace; each once."""
    tool = Tool("bashreadline", "-p", str(shell.pid)).start()
    for line in LINES:
        shell.enter(line)
    assert rows(tool.stop()) == [(shell.pid, line.strip()) for line in LINES]


def test_all_shells(shell: Shell) -> None:
    """Two, one of which begins later; and not what a script runs."""
    tool = Tool("bashreadline").start()
    with bash() as other:
        for number in range(7):
            shell.enter(f"echo {number}")
            other.enter(f"exit_{number} 2>/dev/null")
        os.system("bash -c 'echo a script' >/dev/null")
        found = rows(tool.stop())
    assert [line for pid, line in found if pid == shell.pid] == [f"echo {number}" for number in range(7)]
    assert [line for pid, line in found if pid == other.pid] == [f"exit_{n} 2>/dev/null" for n in range(7)]
    assert not any("script" in line for _, line in found)


def test_what_a_command_starts(tmp_path: Path) -> None:
    """-c: the shell of a shell."""
    script = tmp_path / "program.py"
    script.write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom test_bashreadline import bash\n"
        "with bash() as shell:\n    [shell.enter(f'echo {n}') for n in range(5)]\n"
    )
    tool = Tool("bashreadline", "-c", f"sh -c '{sys.executable} {script}; true'").start()
    assert [line for _, line in rows(tool.wait(patient(60)))] == [f"echo {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-n", "bash"], 3), (["-n", "nobody"], 0), (["--uid", str(os.getuid())], 3), (["--uid", "54321"], 0),
     (["-p", str(os.getpid())], 0)],
)  # fmt: skip
def test_filters(shell: Shell, words: list[str], count: int) -> None:
    tool = Tool("bashreadline", *words).start()
    for number in range(3):
        shell.enter(f"echo {number}")
    assert len([pid for pid, _ in rows(tool.stop()) if pid == shell.pid]) == count


def test_json(shell: Shell) -> None:
    tool = Tool("bashreadline", "--json", "-p", str(shell.pid)).start()
    shell.enter("echo 'a b'")
    (record,) = tool.stop().records()
    assert (record["pid"], record["tid"], record["uid"]) == (shell.pid, shell.pid, os.getuid())
    assert record["command"] == "echo 'a b'"


def test_control_characters_do_not_reach_the_terminal(shell: Shell) -> None:
    """A quoted escape (^V ESC) is entered as one byte, and shown in other signs."""
    tool = Tool("bashreadline", "-p", str(shell.pid)).start()
    shell.enter(": \x16\x1b[31m")
    assert "\x1b" not in tool.stop().stdout
    assert rows(tool) == [(shell.pid, r": \x1b[31m")]


def test_another_bash(tmp_path: Path) -> None:
    """-s names it; the usual one is left out then."""
    mine = tmp_path / "mybash"
    shutil.copy(BASH, mine)
    with bash(str(mine)) as shell, bash() as usual:
        tool = Tool("bashreadline", "-s", str(mine)).start()
        shell.enter("echo mine")
        usual.enter("echo usual")
        assert rows(tool.stop()) == [(shell.pid, "echo mine")]


def library() -> str:
    """The path of libreadline, which python3 comes with."""
    import readline  # noqa: F401

    return next(word for word in Path("/proc/self/maps").read_text().split() if "/libreadline.so" in word)


def test_the_library(tmp_path: Path) -> None:
    """-s names a libreadline.so: of all that use it only what is called bash counts."""
    for name in ("bash", "other"):
        (tmp_path / name).symlink_to(os.path.realpath(sys.executable))
    words = ("-c", PROGRAM, library())
    with Shell(str(tmp_path / "bash"), *words) as shell, Shell(str(tmp_path / "other"), *words) as other:
        tool = Tool("bashreadline", "-s", library()).start()
        for number in range(5):
            shell.enter(f"echo {number}")
            other.enter("select 1;")
        assert rows(tool.stop()) == [(shell.pid, f"echo {number}") for number in range(5)]


@pytest.mark.anywhere
def test_no_such_function() -> None:
    done = osmia("bashreadline", "-s", "/no/such")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "osmia: /no/such: there is no such file\n")
    done = osmia("bashreadline", "-s", "/bin/true")
    assert (done.returncode, done.stdout) == (1, "") and "there is no function readline" in done.stderr
