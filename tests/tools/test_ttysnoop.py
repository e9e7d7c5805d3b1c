# SPDX-License-Identifier: Apache-2.0
"""ttysnoop against terminals that this process makes, and what processes write there."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
import sys
import tempfile
import threading
import tty
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from harness import Tool, eventually, osmia
from needs import needs

pytestmark = pytest.mark.kernel

ME = str(os.getpid())


class Terminal:
    """A pair: what is written to ``fd`` is read from ``master``, in the background; nothing is changed on the way."""

    def __init__(self) -> None:
        self.master, self.fd = pty.openpty()
        tty.setraw(self.fd)
        self.path = os.ttyname(self.fd)
        self.number = self.path.rpartition("/")[2]
        self.seen = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while piece := os.read(self.master, 65536):
                self.seen += piece

    def close(self) -> None:
        os.close(self.fd)
        self._thread.join()
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    one = Terminal()
    yield one
    one.close()


@pytest.fixture
def other() -> Iterator[Terminal]:
    one = Terminal()
    yield one
    one.close()


class Mirror(Tool):
    """The tool, with the bytes that it has written."""

    def __init__(self, *words: str) -> None:
        self.file: Any = tempfile.TemporaryFile()  # noqa: SIM115
        super().__init__("ttysnoop", *words, stdout=self.file)

    def text(self) -> bytes:
        self.stop()
        assert (self.status, self.stderr) == (0, "")
        return self.stdout.encode("utf-8", "surrogateescape")


PIECES = [b"\n", b"a", b"seven b", b"eight by", b"nine byte", b"x" * 254, b"x" * 255, b"y" * 256, b"z" * 257,
          bytes(range(256)), "äöü€".encode(), b"\x1b[31mred\x1b[0m", b"1\x002\x003", b"w" * 4096]  # fmt: skip


def test_every_byte_once_and_in_order(terminal: Terminal, other: Terminal) -> None:
    """Whatever it is; nothing of another terminal, and nothing that was refused."""
    tool = Mirror(terminal.number).start()
    for piece in PIECES * 3:
        assert os.write(terminal.fd, piece) == len(piece)
        os.write(other.fd, b"OTHER")
        with pytest.raises(OSError):
            os.write(terminal.fd + 1000, b"NOWHERE")
    assert tool.text() == b"".join(PIECES * 3)


def test_several_pieces_in_one_call(terminal: Terminal) -> None:
    """writev(), with empty ones among them; older kernels show two."""
    first = Mirror(terminal.path).start()
    os.writev(terminal.fd, [b"one", b"two" * 100])
    assert first.text() == b"one" + b"two" * 100
    needs("bpf_loop")
    tool = Mirror(terminal.path).start()
    parts = [b"one", b"", b"two" * 100, b"\n", b"f" * 333]
    assert os.writev(terminal.fd, parts) == sum(map(len, parts))
    assert os.writev(terminal.fd, [b"%d " % n for n in range(16)]) == 38
    assert tool.text() == b"".join(parts) + b"".join([b"%d " % n for n in range(16)])


def test_text_at_the_end_of_memory(terminal: Terminal) -> None:
    """What is behind a text may not be there: nothing is lost for that."""
    tool = Mirror(terminal.number).start()
    program = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
at = libc.mmap(None, 8192, 3, 34, -1, 0)
libc.munmap(ctypes.c_void_p(at + 4096), 4096)
for size in (1, 3, 8, 13, 300):
    ctypes.memmove(at + 4096 - size, b"end of memory! " * 20, size)
    libc.write(int(sys.argv[1]), ctypes.c_void_p(at + 4096 - size), size)
"""
    subprocess.run([sys.executable, "-c", program, str(terminal.fd)], pass_fds=[terminal.fd], check=True)
    assert tool.text() == b"".join([(b"end of memory! " * 20)[:size] for size in (1, 3, 8, 13, 300)])


def test_what_is_written_to_the_controlling_terminal(terminal: Terminal, other: Terminal) -> None:
    """/dev/tty is another file, and for each process another terminal."""
    program = "import os, fcntl, sys, termios\nos.setsid()\nfcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)\n" \
              "os.write(os.open('/dev/tty', os.O_RDWR), sys.argv[2].encode())"  # fmt: skip
    tool = Mirror(terminal.number).start()
    for one, text in ((terminal, "mine"), (other, "others"), (terminal, "again")):
        subprocess.run([sys.executable, "-c", program, str(one.fd), text], pass_fds=[one.fd], check=True)
    assert tool.text() == b"mineagain"
    assert other.seen == b"others"


@pytest.mark.parametrize(("words", "shown"), [(["-s", "256", "-c", "2"], 512), (["-s", "100", "--datacount=1"], 100),
                                              (["-s", "1024"], 8000), ([], 4096)])  # fmt: skip
def test_how_much_of_a_write(terminal: Terminal, words: list[str], shown: int) -> None:
    """-s times -c; 4096 bytes by default."""
    if "1024" in words:
        needs("bpf_loop")
    tool = Mirror(terminal.number, *words).start()
    text = b"0123456789" * 800
    written = os.write(terminal.fd, text)
    os.write(terminal.fd, b"|end")
    assert tool.text() == text[: min(shown, written)] + b"|end"


@pytest.mark.parametrize(
    ("words", "all_of_it"),
    [(["-p", ME], True), (["-p", "1"], False), (["-n", "nobody"], False), (["--uid", "0"], True)],
)
def test_filters(terminal: Terminal, words: list[str], all_of_it: bool) -> None:
    tool = Mirror(terminal.number, *words).start()
    os.write(terminal.fd, b"text")
    assert tool.text() == b"text" * all_of_it


def test_for_programs(terminal: Terminal) -> None:
    """With --json and --csv who wrote it, and in pieces of 255 bytes."""
    both = Tool("ttysnoop", "--json", terminal.number), Tool("ttysnoop", "--csv", terminal.number)
    for tool in both:
        tool.start()
    os.write(terminal.fd, b"a" * 300)
    os.write(terminal.fd, b"\x1b[2J")
    found = both[0].stop().records()
    assert [one["text"] for one in found] == ["a" * 255, "a" * 45, "\x1b[2J"]
    assert [one["size"] for one in found] == [255, 45, 4] and {one["pid"] for one in found} == {os.getpid()}
    rows = list(csv.DictReader(io.StringIO(both[1].stop().stdout)))
    assert [row["PID"] for row in rows] == [ME] * 3 and "\x1b" not in rows[2]["TEXT"]


def test_its_own_terminal(terminal: Terminal) -> None:
    """What it shows there it does not show again; and it clears the screen first, unless told not to."""
    for words, first in (([], b"\x1b[H\x1b[2J\x1b[3J"), (["-C"], b"")):
        before = len(terminal.seen)
        with open(terminal.path, "wb", buffering=0) as out:
            tool = Tool("ttysnoop", *words, terminal.path, stdout=out.fileno()).start()
            assert eventually(lambda start=before, first=first: terminal.seen[start:].startswith(first))
            os.write(terminal.fd, b"text")
            tool.stop()
        assert tool.status == 0
        enough = before + len(first) + 8
        assert eventually(lambda enough=enough: len(terminal.seen) >= enough)
        assert sorted(terminal.seen[before + len(first) :]) == sorted(b"texttext")
        assert terminal.seen[before:].startswith(first)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "ttysnoop: it is not said which terminal; as in: osmia ttysnoop 2"),
        (["99999"], "ttysnoop: device: /dev/pts/99999: no such file or directory"),
        (["/etc/passwd"], "ttysnoop: device: /etc/passwd is no terminal"),
        (["/dev/null", "-s", "8192"], "ttysnoop: 131072 bytes of a write are too many; at most 65536: -s 4096 -c 16"),
        (["/dev/null", "-s", "0"], "ttysnoop: option -s: '0' is not a whole number from 1"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("ttysnoop", *words)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.endswith("\n")
    assert text in done.stderr


def test_documented_commands(terminal: Terminal) -> None:
    """Those of bcc, with a terminal that is here."""
    from test_bcc_processes import FIXTURES

    for line in (FIXTURES / "ttysnoop.txt").read_text().splitlines():
        tool, *words = line.split()
        if words[-2:] != ["-c", "2"]:
            words = [terminal.number if word == "2" else word for word in words]
        words = [terminal.path if word.startswith("/dev/") else word for word in words]
        done = osmia(tool, *words, "--duration", "0.2")
        assert (done.returncode, done.stderr) == (0, ""), line

