# SPDX-License-Identifier: Apache-2.0
"""Whom the tools about files trace: a program of another user, in a cgroup of its own, and one that is neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import Tool
from script import Script
from test_filters import cgroup

pytestmark = pytest.mark.kernel

TOOLS = ("dirtop", "filegone", "filelife", "fileslower", "filetop", "mountsnoop", "shmsnoop", "sofdsnoop", "statsnoop",
         "syncsnoop", "vfsstat")  # fmt: skip
MORE = {"dirtop": ["-d", "/tmp"], "fileslower": ["0"]}
NOBODY = 65534
#: Something for each of the tools.
WORK = """
name = f"/tmp/osmia-{os.getpid()}"
fd = os.open(name, os.O_CREAT | os.O_RDWR)
os.write(fd, b"x")
os.fsync(fd)
os.stat("/")
os.unlink(name)
libc.umount2(b"/nowhere", 0)
libc.shmget(0x1234, 1, 0)
left, right = socket.socketpair()
socket.send_fds(left, [b"x"], [fd])
"""


@pytest.fixture
def pair() -> Iterator[tuple[Script, Script, Path]]:
    """Two programs and the cgroup that the first one is in; it belongs to nobody."""
    with ExitStack() as stack:
        place = stack.enter_context(cgroup("osmia-test-files"))
        prefix = ("setpriv", f"--reuid={NOBODY}", "--clear-groups")
        one, other = [stack.enter_context(Script(WORK, name=name, prefix=words))
                      for name, words in (("one", prefix), ("other", ()))]  # fmt: skip
        (place / "cgroup.procs").write_text(str(one.pid))
        yield one, other, place


def seen(tool: Tool) -> int:
    """How much was counted, or how many rows there are."""
    rows = [row for record in tool.records() if "lost" not in record for row in record.get("rows", [record])]
    return len(rows)


@pytest.mark.anywhere
@pytest.mark.parametrize("tool", TOOLS)
def test_user_and_cgroup(tool: str, pair: tuple[Script, Script, Path]) -> None:
    """Each filter by itself sees all of the one; together with the other's number it sees nothing."""
    one, other, place = pair
    base = [*MORE.get(tool, []), "--json"]
    alone = Tool(tool, *base, "-p", str(one.pid)).start()
    fitting = [Tool(tool, *base, *words, "-n", "one").start()
               for words in (["--uid", str(NOBODY)], ["--cgroup", str(place)])]  # fmt: skip
    excluding = [Tool(tool, *base, *words, "-p", str(other.pid)).start()
                 for words in (["--uid", str(NOBODY)], ["--cgroup", str(place)])]  # fmt: skip
    one.go()
    other.go()
    count = seen(alone.stop())
    assert count > 0
    assert [seen(done.stop()) for done in fitting] == [count, count]
    assert [seen(done.stop()) for done in excluding] == [0, 0]
