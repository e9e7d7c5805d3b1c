# SPDX-License-Identifier: Apache-2.0
"""filegone and filelife against a program that makes, renames and deletes files in known ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from script import Script, traced

pytestmark = pytest.mark.kernel

ROW = r"\d\d:\d\d:\d\d {pid:<7} script           "
BEFORE = """
for name in "abcdefgh":
    open(name, "w").close()
os.makedirs("one/two")
os.makedirs("three")
os.mkdir("four")
os.symlink("one", "link")
os.unlink("h")
os.symlink("one", "h")
here, one = os.open(".", os.O_RDONLY), os.open("one", os.O_RDONLY)
def rename2(*arguments):
    if libc.renameat2(*arguments):
        os._exit(4)
"""
GOING = """
os.unlink("a")
os.unlink(os.getcwd() + "/b")
os.unlink("c", dir_fd=here)
os.rename("d", "one/D")
os.rename("D", "E", src_dir_fd=one, dst_dir_fd=here)
rename2(-100, b"e", -100, b"one/two/e", 0)
rename2(-100, b"f", -100, b"g", 2)
os.rmdir("three")
os.rmdir("two/../../four", dir_fd=one)
for failing in (lambda: os.unlink("no"), lambda: os.rename("no", "x"), lambda: os.rmdir("one"),
                lambda: os.unlink("one"), lambda: os.unlink("no", dir_fd=here)):
    try:
        failing()
        os._exit(3)
    except OSError:
        pass
"""
GONE = [
    ("DELETE", "a", ""), ("DELETE", "b", ""), ("DELETE", "c", ""), ("RENAME", "d", "one/D"),
    ("RENAME", "one/D", "E"), ("RENAME", "e", "one/two/e"), ("RENAME", "f", "g"), ("DELETE", "three", ""),
    ("DELETE", "one/two/../../four", ""),
]  # fmt: skip


def files(rows: list[str], pattern: str) -> list[str]:
    found = [re.fullmatch(pattern, row) for row in rows]
    assert found and all(found), rows
    return [row[1] for row in found if row]


def test_every_name_that_goes(tmp_path: Path) -> None:
    """In order, by each of the system calls, and none that stays."""
    tool, pid = traced("filegone", work=GOING, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "TIME     PID     COMM             ACTION FILE"
    short = [(what, old.rpartition("/")[2], new.rpartition("/")[2]) for what, old, new in GONE]
    signs = [" <> " if old == "f" else " > " for _, old, _ in short]
    expected = [f"{what} {old}{sign + new if new else ''}" for (what, old, new), sign in zip(short, signs, strict=True)]
    assert files(tool.rows(), ROW.format(pid=pid) + "(.*)") == expected


def test_whole_paths(tmp_path: Path) -> None:
    tool, pid = traced("filegone", "--json", "-F", work=GOING, before=BEFORE, cwd=tmp_path)
    found = [(record["what"], record["file"]) for record in tool.records()]
    expected = [
        (what, f"{tmp_path}/{old}" + (f" {'<>' if old == 'f' else '>'} {tmp_path}/{new}" if new else ""))
        for what, old, new in GONE
    ]
    assert found == expected
    assert {(record["pid"], record["tid"], record["comm"]) for record in tool.records()} == {(pid, pid, "script")}


@pytest.mark.anywhere
def test_names_as_they_are(tmp_path: Path) -> None:
    """Escaped where they could do harm, whole where they are long."""
    work = """
for name in ("\\x1b[31mred", "x" * 255, "two words"):
    open(name, "w").close()
    os.unlink(name)
deep = "/".join(["d" * 200] * 15)
os.makedirs(deep)
os.rename(deep, deep + "x")
"""
    tool, pid = traced("filegone", work=work, cwd=tmp_path)
    names = files(tool.rows(), ROW.format(pid=pid) + "(?:DELETE|RENAME) (.*)")
    assert names == ["\\x1b[31mred", "x" * 255, "two words", "d" * 200 + " > " + "d" * 200 + "x"]


LIVES = """
for n in range(7):
    os.close(os.open(f"file-{n}", os.O_CREAT | os.O_WRONLY))
os.close(os.open("file-1", os.O_CREAT | os.O_WRONLY))
os.close(os.open("one/file", os.O_CREAT | os.O_WRONLY))
os.close(os.open("kept", os.O_CREAT | os.O_WRONLY))
time.sleep(0.3)
os.unlink("file-0")
os.unlink(os.getcwd() + "/file-1")
os.unlink("file-2", dir_fd=here)
os.rename("file-3", "one/moved")
os.unlink("moved", dir_fd=one)
os.unlink("link/file")
os.rename("file-4", "file-5")
os.unlink("file-5")
rename2(-100, b"file-6", -100, b"kept", 2)
os.unlink("kept")
os.unlink("a")
os.unlink("h")
os.rmdir("three")
"""
DEAD = ["file-0", "file-1", "file-2", "one/moved", "one/file", "file-5", "kept"]


def test_every_short_life(tmp_path: Path) -> None:
    """What was made before, or is a directory or a link, is not there; renamed files are, by their last name."""
    tool, pid = traced("filelife", work=LIVES, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "TIME     PID     COMM             AGE(s)  FILE"
    names = files(tool.rows(), ROW.format(pid=pid) + r"\d+\.\d\d +(\S+)")
    assert names == [name.rpartition("/")[2] for name in DEAD]


def test_ages(tmp_path: Path) -> None:
    """Each between the time that the program slept, and the one it took altogether."""
    work = f"begin = time.monotonic()\n{LIVES}\nos.write(out, str(time.monotonic() - begin).encode())"
    before = BEFORE + 'out = os.open("took", os.O_CREAT | os.O_WRONLY)\n'
    tool, _ = traced("filelife", "--full-path", "--json", work=work, before=before, cwd=tmp_path)
    took = float((tmp_path / "took").read_text())
    found = {record["file"].replace("link/", "one/"): record["age"] for record in tool.records()}
    assert list(found) == [f"{tmp_path}/{name}" for name in DEAD]
    assert all(0.3 <= age <= took for age in found.values())


def test_in_a_root_of_its_own(tmp_path: Path) -> None:
    """Paths count from the process's root directory: one of the same name elsewhere is another file."""
    work = """
os.close(os.open("/same", os.O_CREAT | os.O_WRONLY))
os.chroot("inner")
os.close(os.open("/same", os.O_CREAT | os.O_WRONLY))
os.chdir("/")
os.unlink("same")
os.chroot("..")
"""
    (tmp_path / "inner").mkdir()
    before = f"os.chroot({str(tmp_path)!r}); os.chdir('/')"
    tool, _ = traced("filelife", "-F", "--json", work=work, before=before, cwd=tmp_path)
    assert [record["file"] for record in tool.records()] == ["/same"]
    assert len({record["root"] for record in tool.records()}) == 1


@pytest.mark.anywhere
@pytest.mark.parametrize("tool", ["filegone", "filelife"])
def test_others_are_left_out(tool: str, tmp_path: Path) -> None:
    work = "for n in range(5):\n    open('x', 'w').close()\n    os.unlink('x')"
    with Script(work, cwd=tmp_path, name="one") as one, Script(work, cwd=tmp_path, name="other") as other:
        running = [Tool(tool, "-F", *words).start()
                   for words in (["-p", str(one.pid)], ["-n", "one"], ["--tid", str(other.pid)])]  # fmt: skip
        one.go()
        other.go()
        rows = [done.stop().rows() for done in running]
    assert [[row.split()[1] for row in some if str(tmp_path) in row] for some in rows] == [
        [str(one.pid)] * 5, [str(one.pid)] * 5, [str(other.pid)] * 5
    ]  # fmt: skip


@pytest.mark.anywhere
@pytest.mark.parametrize("tool", ["filegone", "filelife"])
def test_no_such_option(tool: str) -> None:
    done = osmia(tool, "-x")
    assert (done.returncode, done.stderr) == (2, f"osmia: {tool}: unknown option -x; see osmia {tool} --help\n")
