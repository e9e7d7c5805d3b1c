# SPDX-License-Identifier: Apache-2.0
"""threadsnoop against a program that makes threads as it is told."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from pathlib import Path

import pytest
from harness import Commanded, Told, Tool, osmia, user_program

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d+) +(\d+) +(.{16}) (\S+)$")
ME = str(os.getpid())
THREE = "import threading; [threading.Thread(target=int).start() for _ in range(3)]"


def threads_here(times: int) -> None:
    for _ in range(times):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()


def rows(tool: Tool) -> list[tuple[int, str, str, str]]:
    """Milliseconds, PID, COMM and FUNC of all rows."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0].split() == ["TIME(ms)", "PID", "COMM", "FUNC"]
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    return [(int(row[1]), row[2], row[3].rstrip(), row[4]) for row in found if row]


def test_every_thread_has_a_row_with_its_function() -> None:
    """In order; the threads of others are left out."""
    with Commanded("orders") as program:
        tool = Tool("threadsnoop", "-p", program.pid).start()
        for number in range(13):
            program.ask("forward" if number % 3 else "backward", 0, 1)
        threads_here(3)
        found = rows(tool.stop())
    assert [row[1:] for row in found] == [
        (program.pid, "orders.program", "forward" if number % 3 else "backward") for number in range(13)
    ]
    times = [row[0] for row in found]
    assert times[0] == 0 and times == sorted(times)


def test_all_processes() -> None:
    """Without a filter whoever makes one."""
    tool = Tool("threadsnoop").start()
    threads_here(7)
    with Commanded("orders") as program:  # it starts later than the trace
        program.ask("chain", 5)
        found = rows(tool.stop())
    assert len([row for row in found if row[1] == ME]) == 7
    assert [row[3] for row in found if row[1] == program.pid] == ["forward"] * 5


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-n", "orders"], 11), (["-n", "nobody"], 0), (["--uid", str(os.getuid())], 11), (["--uid", "54321"], 0)],
)
def test_filters(words: list[str], count: int) -> None:
    with Commanded("orders") as program:
        tool = Tool("threadsnoop", *words).start()
        program.ask("chain", 11)
        found = rows(tool.stop())
    assert len([row for row in found if row[1] == program.pid]) == count


def test_one_thread() -> None:
    """--tid is the thread that makes others."""
    tool = Tool("threadsnoop", "--tid", str(threading.get_native_id())).start()
    threads_here(5)
    other = threading.Thread(target=threads_here, args=(2,))
    other.start()
    other.join()
    assert len(rows(tool.stop())) == 6  # five and the other one, whose own two are not among them


def test_json() -> None:
    with Commanded("orders") as program:
        tool = Tool("threadsnoop", "--json", "-p", program.pid).start()
        program.ask("forward", 0, 1)
        (record,) = tool.stop().records()
        symbols = os.popen(f"nm {user_program('orders')}").read()
        base = int(Path(f"/proc/{program.pid}/maps").read_text().split("-")[0], 16)
    address = int(next(line.split()[0] for line in symbols.splitlines() if line.endswith(" forward")), 16)
    assert record["func"] == "forward" and record["start"] == base + address
    assert (record["pid"], record["tid"]) == (int(program.pid), int(program.pid))


def test_a_function_without_a_name_is_shown_by_its_place(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copy(user_program("orders"), bare)
    assert os.system(f"strip {bare}") == 0
    with Told(str(bare)) as program:
        tool = Tool("threadsnoop", "-p", program.pid).start()
        program.tell("forward 0 1")
        ((_, _, _, function),) = rows(tool.stop())
    assert re.fullmatch(r"\[bare\+0x[0-9a-f]+\]", function)


def test_a_library_of_ones_own() -> None:
    """The system's own, by its path."""
    mapped = Path("/proc/self/maps").read_text().split()
    libraries = [word for name in ("/libpthread", "/libc.so", "/libc-") for word in mapped if name in word]
    # Since glibc 2.34 libpthread has nothing in it but is loaded by old programs all the same.
    path = next(one for one in libraries if b"\0pthread_create\0" in Path(one).read_bytes())
    tool = Tool("threadsnoop", "--library", path, "-p", ME).start()
    threads_here(3)
    assert len(rows(tool.stop())) == 3


def test_a_replay_asks_no_process(tmp_path: Path) -> None:
    """Whoever has that number now is not who is meant."""
    out = tmp_path / "recording"
    done = osmia("record", "-o", str(out), "threadsnoop", "-c", f"{sys.executable} -c '{THREE}'")
    assert done.returncode == 0, done.stderr
    shown = osmia("replay", str(out))
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["TIME(ms)", "PID", "COMM", "FUNC"] and len(lines) == 4
    assert all(re.fullmatch(r"0x[0-9a-f]+", line.split()[-1]) for line in lines[1:])


@pytest.mark.anywhere
def test_no_such_library() -> None:
    done = osmia("threadsnoop", "--library", "/no/such/file")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "osmia: /no/such/file: there is no such file\n"
