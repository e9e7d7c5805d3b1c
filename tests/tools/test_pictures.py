# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a tool really counted: every read of a workload in exactly one cell, in each form."""

from __future__ import annotations

import os
import pty
import re
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from harness import Tool, eventually, osmia_command

pytestmark = pytest.mark.kernel

READS, SMALL = 101, 37
PROGRAM = """
from osmia import current, histogram, log2_hist, tracepoint
from osmia.lang.filters import pid

sizes = log2_hist("bytes")

@tracepoint("syscalls:sys_exit_read")
def leave(call):
    if current.tgid == pid and call.ret > 2000:
        sizes.add(call.ret)

tool = histogram(sizes)
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "reads.py"
    path.write_text(PROGRAM)
    return str(path)


def work() -> None:
    """Reads of two sizes, in two bursts with more than an interval between them."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    for size, count in ((4096, READS), (16384, SMALL)):
        for _ in range(count):
            os.read(fd, size)
        time.sleep(0.5)
    os.close(fd)


def counts(path: Path) -> dict[str, int]:
    """Values → count, over all cells of an SVG file."""
    found: dict[str, int] = {}
    for title in re.findall(r"<title>(.*?)</title>", path.read_text()):
        cell = re.fullmatch(r"[\d:.]+ to [\d:.]+, (.+) bytes: ([\d,]+), .*", title.replace("&gt;", ">"))
        if cell:
            found[cell[1]] = found.get(cell[1], 0) + int(cell[2].replace(",", ""))
    return found


def test_files_hold_every_value_once(program: str, tmp_path: Path) -> None:
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    words = ("run", program, "-p", str(os.getpid()), "--svg", str(svg), "--html", str(html), "0.2")
    with Tool(*words) as tool:
        work()
        tool.stop()
    assert tool.status == 0, tool.stderr
    expected = {"4096 -> 8191": READS, "16384 -> 32767": SMALL}
    assert counts(svg) == counts(html) == expected
    ET.parse(svg)
    # The intervals are printed as ever, and add up to the same.
    printed = sum(int(n) for n in re.findall(r"16384 -> 32767 +: (\d+)", tool.stdout))
    assert printed == SMALL
    columns = {int(x) for x in re.findall(r'<rect class="h\d" x="(\d+)" y="\d+" width="\d+" height="\d+"><title>',
                                          svg.read_text())}  # fmt: skip
    assert len(columns) >= 2  # the bursts lie apart


def test_the_map_in_a_file_is_plain(program: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Tool("run", program, "-p", str(os.getpid()), "--heatmap", "-o", str(out), "0.2") as tool:
        work()
        tool.stop()
    assert tool.status == 0, tool.stderr
    text = out.read_text()
    assert text.isascii()
    assert "\x1b" not in text
    totals = dict(re.findall(r"^ *(\d+ -> \d+) \|.*\| (\d+)$", text, re.M))
    assert totals == {"4096 -> 8191": str(READS), "8192 -> 16383": "0", "16384 -> 32767": str(SMALL)}
    assert "a column is 0.2 s;" in text


def test_the_map_in_a_terminal_is_drawn_over_itself(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main, side = pty.openpty()
    seen: list[bytes] = []

    def reader() -> None:
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:  # the other end is closed
                return
            seen.append(data)

    thread = threading.Thread(target=reader)
    thread.start()
    command = osmia_command("run", program, "-p", str(os.getpid()), "--heatmap", "0.2")
    with Tool(command=command, stdout=side) as tool:
        os.close(side)
        work()
        assert eventually(lambda: b"16384 -> 32767" in b"".join(seen))
        tool.stop()
    thread.join()
    os.close(main)
    screen = b"".join(seen).decode()
    last = re.split(r"\x1b\[\d+A\r\x1b\[J", screen)[-1].replace("\r\n", "\n")
    assert "\x1b[48;5;" in last
    plain = re.sub(r"\x1b\[[0-9;]*m", "", last)
    assert re.findall(r"\| (\d+)$", plain, re.M) == [str(SMALL), "0", str(READS)]
