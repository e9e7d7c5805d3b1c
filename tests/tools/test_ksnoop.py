# SPDX-License-Identifier: Apache-2.0
"""ksnoop and inject: calls of kernel functions that a test makes itself."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from harness import Told, Tool, osmia, osmia_command
from needs import needs

from osmia.kernel import functions

pytestmark = pytest.mark.kernel

#: Reads so many bytes from /dev/zero as a line says, so often as it says, and makes folders by name.
PROGRAM = """
import os, sys
zero = os.open("/dev/zero", os.O_RDONLY)
for line in sys.stdin:
    word, *rest = line.split()
    made = 0
    if word == "read":
        made = sum(len(os.read(zero, int(rest[0]))) for _ in range(int(rest[1])))
    for name in rest if word == "mkdir" else ():
        try:
            os.mkdir(name)
            os.rmdir(name)
        except OSError as e:
            made += e.errno
    print(made, flush=True)
"""
#: What fails is a security hook, which every kernel lets programs decide; slab allocations few kernels do.
HOOKED = """
import sys
from osmia.tools import inject
inject.MODES["kmalloc"] = ("security_inode_mkdir", -12)
inject.check_injectable = lambda bottom: None
from osmia.cli import main
main.go(main.main(sys.argv[1:]))
"""


def worker() -> Told:
    return Told(sys.executable, "-c", PROGRAM)


def test_prototypes() -> None:
    done = osmia("ksnoop", "info", "vfs_read", "ksys_read")
    assert done.stdout == (
        "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos);\n"
        "ssize_t ksys_read(unsigned int fd, char *buf, size_t count);\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "it is not said which function"),
        (["info", "vfs_reed"], "did you mean vfs_read"),
        (["vfs_read(cuont)"], "vfs_read has no argument cuont; it has file, buf, count, pos"),
        (["vfs_read(file->f_what)"], "there is no member f_what"),
        (["vfs_read(file"], "is no function"),
        (["-s", "vfs_read"], "-s needs functions that are called within each other"),
        (["migrate_disable"], "must never be probed"),
    ],
)
def test_what_is_asked_for_wrongly(words: list[str], says: str) -> None:
    done = osmia("ksnoop", *words)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


def test_arguments_and_results() -> None:
    needs("kprobe")
    with worker() as work:
        tool = Tool("ksnoop", "--json", "-p", work.pid, "vfs_read(count == 4321, file, file->f_flags, return)").start()
        text = Tool("ksnoop", "-p", work.pid, "vfs_read(count == 4321, file, return)").start()
        assert work.tell("read 4321 7") == f"{7 * 4321}\n"
        work.tell("read 99 5")
        tool.stop()
        text.stop()
    calls = [one for one in tool.records() if "function" in one]
    assert [(one["function"], one["returns"]) for one in calls] == [("vfs_read", False), ("vfs_read", True)] * 7
    for one in calls:
        values = {value["name"]: value for value in one["values"]}
        if one["returns"]:
            assert values["return"]["value"] == 4321 and values["return"]["text"] == "(ssize_t)0x10e1"
        else:
            assert values["count == 4321" if "count == 4321" in values else "count"]["value"] == 4321
            assert values["file"]["text"].startswith("(struct file){\n") and " .f_op = " in values["file"]["text"]
            assert values["file"]["value"] >> 63 == 1 and values["file->f_flags"]["value"] & 3 == os.O_RDONLY
    head, *lines = text.stdout.splitlines()
    assert head == "          TIME  CPU      PID FUNCTION/ARGS"
    assert len(re.findall(rf"^ *\d+ +\d+ +{work.pid} vfs_read\($", text.stdout, re.M)) == 14
    at = lines.index(" " * 33 + "count =")
    assert lines[at + 1] == " " * 34 + "(size_t)0x10e1,"
    assert lines[at + 2].startswith(" " * 33 + "file = *(0xff") and lines[at + 3] == " " * 34 + "(struct file){"
    assert lines.count(" " * 29 + ");") == 14


def test_functions_within_each_other() -> None:
    needs("kprobe")
    with worker() as work:
        tool = Tool("ksnoop", "--json", "-s", "-p", work.pid, "ksys_read", "vfs_read(count, return)").start()
        wrong = Tool("ksnoop", "--json", "-s", "-p", work.pid, "vfs_read", "ksys_read(count)").start()
        work.tell("read 4321 3")
        tool.stop()
        wrong.stop()
    counts = [one["values"][0]["value"] for one in tool.records() if one.get("function") == "vfs_read"]
    assert counts.count(4321) == 6
    assert not [one for one in wrong.records() if "function" in one]


# --- inject -------------------------------------------------------------------------------------------------------


def hooked(tmp_path: Path, *words: str) -> Tool:
    file = tmp_path / "hooked.py"
    file.write_text(HOOKED)
    return Tool(command=[osmia_command()[0], str(file), "inject", "kmalloc", *words])


def test_a_chain_makes_calls_fail(tmp_path: Path) -> None:
    needs("fentry")
    needs("kprobe")
    names = [str(tmp_path / name) for name in ("apples", "bananas", "cherries")]
    spec = "vfs_mkdir()"
    with worker() as work, worker() as other:
        tool = hooked(tmp_path, "-p", work.pid, spec).start()
        assert work.tell(f"mkdir {' '.join(names)}") == "36\n"  # ENOMEM three times
        assert other.tell(f"mkdir {' '.join(names)}") == "0\n"
        tool.stop()
        assert work.tell(f"mkdir {' '.join(names)}") == "0\n"
    assert tool.status == 0
    assert tool.stdout == f"Failing kmalloc in {spec}... Hit Ctrl-C to end.\nfailed 3 times\n"


@pytest.mark.parametrize(
    ("words", "failures"),
    [
        (("(STRCMP(dentry->d_name.name, bananas)) => vfs_mkdir()",), 1),
        (("(mode > 0) => vfs_mkdir()", "-c", "2"), 2),
        (("vfs_rmdir()",), 0),
        (("vfs_mkdir() => vfs_rmdir()",), 0),
        (("(true)",), 3),
    ],
)
def test_predicates_and_limits(words: tuple[str, ...], failures: int, tmp_path: Path) -> None:
    needs("fentry")
    needs("kprobe")
    names = [str(tmp_path / name) for name in ("apples", "bananas", "cherries")]
    with worker() as work:
        tool = hooked(tmp_path, "--json", "-p", work.pid, *words).start()
        assert work.tell(f"mkdir {' '.join(names)}") == f"{12 * failures}\n"
        tool.stop()
    assert tool.records()[-1] == {"failed": failures}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kmalloc"], "it is not said what is to fail"),
        (["malloc", "f()"], "there is no 'malloc'"),
        (["bio", "f("], "the parentheses do not match"),
        (["bio", "f() => (true)"], "the function that is to fail is innermost"),
        (["bio", "-P", "2", "f()"], "is no probability"),
    ],
)
def test_what_cannot_be_injected(words: list[str], says: str) -> None:
    done = osmia("inject", *words)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["kmalloc", "bio", "alloc_page"])
def test_kernels_that_do_not_allow_it(mode: str) -> None:
    done = osmia("inject", mode, "-d", "0.1", "vfs_mkdir()")
    if done.returncode == 0:
        assert functions.injectable(), "only a kernel with such a list allows it"
        return
    assert done.returncode == 1 and "osmia: " in done.stderr and "Traceback" not in done.stderr
