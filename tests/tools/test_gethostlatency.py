# SPDX-License-Identifier: Apache-2.0
"""gethostlatency against lookups that a name server of our own answers after a known time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Tool, osmia
from lookups import DELAY, LONG, Resolver

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(\S+) +(\d+\.\d\d) (.*)$")
NO_SUCH_HOST = -2  # EAI_NONAME of netdb.h


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[Resolver]:
    with Resolver(tmp_path) as made:
        yield made


def rows(tool: Tool) -> list[tuple[int, str, float, str]]:
    """PID, COMM, LATms and HOST of all rows."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0].split() == ["TIME", "PID", "COMM", "LATms", "HOST"]
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    return [(int(row[2]), row[3], float(row[4]), row[5]) for row in found if row]


def test_every_lookup_has_a_row_and_its_time(resolver: Resolver) -> None:
    """As long as the name server took, and no longer than the program itself saw."""
    tool = Tool("gethostlatency", "-p", resolver.pid).start()
    asked = []
    for how, times in (("getaddrinfo", 7), ("gethostbyname", 5), ("gethostbyname2", 3)):
        for number in range(times):
            name = f"{how}-{number}.example"
            result, took = resolver.lookup(how, name)
            assert result == 0
            asked.append((name, took / 1e6))
    found = rows(tool.stop())
    assert [(pid, host) for pid, _, _, host in found] == [(int(resolver.pid), name) for name, _ in asked]
    for (_, comm, shown, _), (_, took) in zip(found, asked, strict=True):
        assert comm.startswith("python")
        assert DELAY * 1e3 <= shown <= took + 0.01


def test_json(resolver: Resolver) -> None:
    """Which function, and what it returned."""
    tool = Tool("gethostlatency", "-p", resolver.pid, "--json").start()
    expected = [("getaddrinfo", "one.example", 0), ("getaddrinfo", "nobody.example", NO_SUCH_HOST),
                ("gethostbyname", "two.example", 0), ("gethostbyname", "nobody.example", -1),
                ("gethostbyname2", "nobody.example", -1)]  # fmt: skip
    for how, name, result in expected:
        assert resolver.lookup(how, name)[0] == result
    found = [record for record in tool.stop().records() if "host" in record]
    assert [(one["function"], one["host"], one["ret"]) for one in found] == expected
    assert all(one["latency_ns"] >= DELAY * 1e9 and one["pid"] == one["tid"] == int(resolver.pid) for one in found)


def test_names_of_any_length_and_none(resolver: Resolver) -> None:
    """The longest that there is, one that the lookup itself gets into memory, and none, which is no lookup."""
    tool = Tool("gethostlatency", "-p", resolver.pid).start()
    resolver.lookup("getaddrinfo", "LONG")
    resolver.lookup("untouched", "untouched.example")
    resolver.lookup("getaddrinfo", "NULL")
    assert [host for *_, host in rows(tool.stop())] == [LONG, "untouched.example"]


def test_threads_at_the_same_time(tmp_path: Path) -> None:
    """Each has its own time; the name server answers one after the other, and they start while it answers the first."""
    with Resolver(tmp_path) as resolver:
        tool = Tool("gethostlatency", "-p", resolver.pid).start()
        _, took = resolver.lookup("threads", "thread")
        found = rows(tool.stop())
    assert sorted(host for *_, host in found) == [f"thread{n}.example" for n in range(5)]
    for number, (_, _, ms, _) in enumerate(found):
        assert (number + 0.5) * DELAY * 1e3 <= ms <= took / 1e6 + 0.01


def test_other_processes_are_left_out(resolver: Resolver, tmp_path: Path) -> None:
    """-p is the one that looks up."""
    tool = Tool("gethostlatency", "-p", str(os.getpid())).start()
    resolver.lookup("getaddrinfo", "one.example")
    assert rows(tool.stop()) == []


def test_processes_that_start_later(tmp_path: Path) -> None:
    """Without -p every process, also one that is not there yet; -n takes some of them."""
    tools = [Tool("gethostlatency").start(), Tool("gethostlatency", "-n", "pyth").start(),
             Tool("gethostlatency", "-n", "nobody").start()]  # fmt: skip
    with Resolver(tmp_path, 0.0) as resolver:
        for number in range(11):
            resolver.lookup("getaddrinfo", f"later-{number}.example")
    counts = [[pid for pid, *_ in rows(tool.stop())].count(int(resolver.pid)) for tool in tools]
    assert counts == [11, 11, 0]


def test_a_command_and_what_it_starts() -> None:
    """-c: the shell's child is a process of its own."""
    done = osmia("gethostlatency", "-c", "sh -c 'getent ahostsv4 127.0.0.1; getent ahostsv4 127.0.0.2; true'")
    assert done.returncode == 0 and done.stderr == ""
    shown = [match for match in map(ROW.match, done.stdout.splitlines()) if match]
    assert [(match[3], match[5]) for match in shown] == [("getent", "127.0.0.1"), ("getent", "127.0.0.2")]
    assert shown[0][2] != shown[1][2]


def test_another_c_library(tmp_path: Path) -> None:
    """-l: a copy of it, which one program uses and no other."""
    libc = re.search(r"libc\.so\.6 => (\S+)", subprocess.run(["ldd", shutil.which("getent") or ""],
                     capture_output=True, text=True, check=True).stdout)  # fmt: skip
    assert libc
    copy = shutil.copy(libc[1], tmp_path / "libc.so.6")
    tool = Tool("gethostlatency", "-l", str(copy)).start()
    subprocess.run(["getent", "ahostsv4", "127.0.0.3"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["getent", "ahostsv4", "127.0.0.4"], stdout=subprocess.DEVNULL, check=True,
                   env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})  # fmt: skip
    time.sleep(0.1)
    assert [host for *_, host in rows(tool.stop())] == ["127.0.0.4"]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["-l", "/no/such/libc"], "osmia: /no/such/libc: there is no such file"),
     (["-p", "0"], "osmia: gethostlatency: option -p:"), (["-p", "4194304"], "osmia: gethostlatency: option -p:")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("gethostlatency", *words)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
