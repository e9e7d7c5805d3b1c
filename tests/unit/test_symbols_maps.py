# SPDX-License-Identifier: Apache-2.0
"""Mappings of processes, their history, and the maps that JIT compilers write."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from osmia.errors import NotFound, UserError
from osmia.symbols import jit, libs
from osmia.symbols import maps as maps_module
from osmia.symbols.jit import PerfMap
from osmia.symbols.maps import Mapping, Maps
from osmia.symbols.processes import Processes

#: No process has this number (``/proc/sys/kernel/pid_max`` is at most 4,194,304).
NOBODY = 5_000_000

TEXT = """\
55a0e7c00000-55a0e7c01000 r--p 00000000 fe:01 131 /usr/bin/where
55a0e7c01000-55a0e7c02000 r-xp 00001000 fe:01 131 /usr/bin/where
7f0000000000-7f0000100000 r-xp 00026000 00:2b 77 /usr/lib/a b\\012c.so (deleted)
7f0000200000-7f0000201000 rwxp 00000000 00:00 0\x20
7f0000300000-7f0000301000 r-xp 00000000 00:01 9 /memfd:jit code (deleted)
7f0000400000-7f0000401000 r-xp 00000000 00:00 0 [anon:v8]
7fff00000000-7fff00002000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""


def test_a_list_of_mappings_is_read() -> None:
    made = Maps.parse(TEXT, 42)
    assert made.pid == 42 and len(made) == 7  # what is not executable is left out
    program, library, anonymous, memory, named, vdso, _ = list(made)
    assert (program.start, program.offset, program.path) == (0x55A0E7C01000, 0x1000, "/usr/bin/where")
    assert program.file == (os.makedev(0xFE, 1), 131) and program.has_file and not program.deleted
    assert library.path == "/usr/lib/a b\nc.so" and library.deleted and library.has_file
    assert [one.has_file for one in (anonymous, memory, named, vdso)] == [False] * 4
    assert memory.path == "/memfd:jit code" and named.path == ""
    assert made.find(0x55A0E7C01FFF) is program and made.find(0x55A0E7C02000) is None
    assert made.find(0x55A0E7C00000) is None and made.find(0) is None
    with pytest.raises(UserError, match="no list of memory mappings"):
        Maps.parse("somewhere-else r-xp 0 0:0 0 /bin/x")


def test_later_mappings_take_the_place_of_earlier_ones() -> None:
    made = Maps(1, [Mapping(0x1000, 0x9000, 0x10000, "/lib/old.so")])
    made.add(Mapping(0x3000, 0x5000, 0, "/lib/new.so"))
    assert [(one.start, one.end, one.offset, one.path) for one in made] == [
        (0x1000, 0x3000, 0x10000, "/lib/old.so"),
        (0x3000, 0x5000, 0, "/lib/new.so"),
        (0x5000, 0x9000, 0x14000, "/lib/old.so"),
    ]
    made.add(Mapping(0, 0x10000, 0, "/lib/all.so"))
    assert [one.path for one in made] == ["/lib/all.so"]
    made.add(Mapping(0x10000, 0x11000, 0, "/lib/next.so"))
    assert [made.find(at).path for at in (0xFFFF, 0x10000)] == ["/lib/all.so", "/lib/next.so"]  # type: ignore[union-attr]


def test_mappings_agree_with_a_plain_table() -> None:
    chance = random.Random(5)
    for _ in range(50):
        made, table = Maps(1), [""] * 64
        for number in range(12):
            start = chance.randrange(60)
            end = chance.randrange(start + 1, 65)
            made.add(Mapping(start, end, start, f"/{number}"))
            table[start:end] = [f"/{number}"] * (end - start)
        for at in range(64):
            found = made.find(at)
            assert (found.path if found else "") == table[at]
            assert found is None or found.offset + at - found.start == at


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=f"no process {NOBODY}"):
        Maps.capture(NOBODY)
    assert maps_module.started(NOBODY) == 0
    processes = Processes()
    program = processes.at(NOBODY)
    assert "no process" in program.problem and len(program.maps) == 0 and not program.look_again()


# --- history ------------------------------------------------------------------------------------------------------


def one_mapping(path: str) -> Maps:
    return Maps(NOBODY, [Mapping(0x1000, 0x2000, 0, path)])


def path_at(processes: Processes, pid: int, time: int) -> str:
    found = processes.at(pid, time).maps.find(0x1800)
    return found.path if found else ""


def test_one_number_is_many_programs_one_after_the_other() -> None:
    processes = Processes()
    processes.hand_in(one_mapping("/bin/first"), 100)
    processes.mapped(NOBODY, Mapping(0x3000, 0x4000, 0, "/lib/late.so"), 150)
    processes.exited(NOBODY, 200)
    processes.hand_in(one_mapping("/bin/second"), 300)
    processes.hand_in(one_mapping("/bin/third"), 400)  # an exec without an exit
    for time, path in ((100, "first"), (199, "first"), (200, "first"), (300, "second"), (399, "second"),
                       (400, "third"), (10**9, "third"), (0, "third"), (50, "first")):  # fmt: skip
        assert path_at(processes, NOBODY, time) == f"/bin/{path}", time
    assert processes.at(NOBODY, 150).maps.find(0x3800).path == "/lib/late.so"  # type: ignore[union-attr]
    processes.forget(NOBODY)
    assert path_at(processes, NOBODY, 0) == ""


def test_a_child_begins_with_what_its_parent_has() -> None:
    processes = Processes()
    processes.hand_in(one_mapping("/bin/parent"), 100)
    processes.forked(NOBODY, NOBODY + 1, 150)
    processes.mapped(NOBODY, Mapping(0x1000, 0x2000, 0, "/lib/parents"), 160)
    assert path_at(processes, NOBODY + 1, 170) == "/bin/parent"
    assert path_at(processes, NOBODY, 170) == "/lib/parents"
    processes.executed(NOBODY + 1, 200)  # it is gone before it could be looked at
    assert path_at(processes, NOBODY + 1, 180) == "/bin/parent" and path_at(processes, NOBODY + 1, 210) == ""


def test_the_oldest_processes_are_forgotten() -> None:
    processes = Processes(most=3)
    for pid in range(NOBODY, NOBODY + 5):
        processes.hand_in(Maps(pid, [Mapping(0x1000, 0x2000, 0, f"/{pid}")]))
    assert len(processes) == 3
    assert path_at(processes, NOBODY + 4, 0) == f"/{NOBODY + 4}" and path_at(processes, NOBODY + 2, 0)
    processes.close()
    assert len(processes) == 0


# --- perf-PID.map -------------------------------------------------------------------------------------------------


def lookup(text: bytes, address: int) -> str:
    made = jit.parse(text)
    n = made.at(address)
    return text[made.names[n] :].split(b"\n")[0].decode() if n >= 0 else ""


def test_lines_of_a_jit_map() -> None:
    text = b"7f00 20 LazyCompile:*f /app/x.js:1\n0x7f40 0x10 py::run:/a.py\nrubbish\n"
    text += b"zz 10 a\n7f60 0 empty\n7f70 10\n8000 8 end"
    for address, name in ((0x7F00, "LazyCompile:*f /app/x.js:1"), (0x7F1F, "LazyCompile:*f /app/x.js:1"), (0x7F20, ""),
                          (0x7F45, "py::run:/a.py"), (0x7F60, ""), (0x7F70, ""), (0x8007, "end"), (0x8008, ""),
                          (0, "")):  # fmt: skip
        assert lookup(text, address) == name
    assert lookup(b"", 0x7F00) == ""


def test_memory_that_is_used_again_has_its_latest_name() -> None:
    text = b"1000 40 first\n1010 10 second\n1000 8 third\n2000 10 x\n2000 10 y\n"
    for address, name in ((0x1000, "third"), (0x1008, "first"), (0x1010, "second"), (0x1020, "first"), (0x2008, "y")):
        assert lookup(text, address) == name
    chance = random.Random(8)
    for _ in range(60):
        table, lines = [""] * 80, []
        for number in range(chance.randrange(1, 20)):
            start = chance.randrange(1, 70)
            size = chance.randrange(1, 10)
            lines.append(f"{start:x} {size:x} n{number}")
            table[start : start + size] = [f"n{number}"] * size
        raw = "\n".join(lines).encode()
        assert [lookup(raw, at) for at in range(80)] == table


def owned(tmp_path: Path, uid: int) -> Maps:
    maps = Maps(NOBODY)
    maps.uid = uid
    maps._root = maps_module._Root(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), (0, 0, id(maps))).take()
    return maps


def test_only_the_process_s_own_map_is_believed(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "tmp" / f"perf-{NOBODY}.map"
    table = PerfMap(owned(tmp_path, os.geteuid()))
    assert not table.refresh() and "no /tmp/perf-" in table.problem
    path.write_text("1000 10 one\n")
    assert table.refresh() and table.at(0x1004) == ("one", 0x1000) and not table.problem
    assert not table.refresh()  # it has not changed
    path.write_text("1000 10 one\n1010 10 two\n")
    assert table.refresh() and table.at(0x1014) == ("two", 0x1010)
    if os.geteuid() == 0:  # as root one can own files for others
        other = PerfMap(owned(tmp_path, 4242))
        os.chown(path, 4243, -1)
        assert not other.refresh() and "does not belong" in other.problem
        os.chown(path, 4242, -1)
        assert other.refresh()
    for make in (lambda: path.symlink_to(tmp_path / "elsewhere"), lambda: os.mkfifo(path), path.mkdir):
        path.unlink()
        make()
        assert not PerfMap(owned(tmp_path, os.geteuid())).refresh()
        if path.is_dir():
            path.rmdir()


def test_the_map_lies_in_the_process_s_root(tmp_path: Path) -> None:
    """Its /tmp may be a link, which means something in its root and something else in ours."""
    (tmp_path / "var/tmp").mkdir(parents=True)
    (tmp_path / "tmp").symlink_to("/var/tmp")
    assert libs.within(str(tmp_path), "/tmp") == "/var/tmp"
    maps = owned(tmp_path, os.geteuid())
    maps.own_pid = 7
    (tmp_path / "var/tmp/perf-7.map").write_text("1000 10 inside\n")
    table = PerfMap(maps)
    assert table.refresh() and table.at(0x1000) == ("inside", 0x1000)


@pytest.mark.parametrize(
    ("program", "part"),
    [("/usr/bin/node", "--perf-basic-prof"), ("/usr/bin/python3.12", "-X perf"), ("/x/bin/java", "jcmd PID"),
     ("/usr/bin/nodejsx", ""), ("/bin/sh", ""), ("", "")],
)  # fmt: skip
def test_how_a_runtime_is_made_to_write_its_map(program: str, part: str) -> None:
    assert (part in jit.advice(program)) if part else not jit.advice(program)
