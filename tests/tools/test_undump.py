# SPDX-License-Identifier: Apache-2.0
"""undump against a process that receives known bytes through sockets."""

from __future__ import annotations

import mmap
import os
import re
import socket
from typing import Any

import pytest
from filesystems import Worker
from harness import REPO, Tool, osmia

pytestmark = pytest.mark.kernel

LINE = b"Hello, \\world\n\x00\xff"
SHOWN = r"Hello, \x5cworld\x0a\x00\xff"


def records(tool: Tool) -> list[dict[str, Any]]:
    return [one for one in tool.records() if "data" in one]


def traced(work: Any, *words: str) -> tuple[Tool, int]:
    worker = Worker(work)
    tool = Tool("undump", "-p", str(worker.pid), *words).start()
    worker.work()
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    return tool, worker.pid


@pytest.mark.feature("B13 tools")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_every_call_that_receives(kind: socket.SocketKind) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)

    def work() -> None:
        for receive in (
            lambda: other.recv(100), lambda: os.read(other.fileno(), 100), lambda: other.recvmsg(100),
            lambda: os.readv(other.fileno(), [bytearray(100)]), lambda: other.recvfrom(100),
        ):  # fmt: skip
            one.send(LINE)
            receive()

    with one, other:
        tool, pid = traced(work, "--json")
    assert [(one["size"], one["data"]) for one in records(tool)] == [(len(LINE), SHOWN)] * 5
    assert {(one["pid"], one["tid"]) for one in records(tool)} == {(pid, pid)}


def test_rows_and_hexdump() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(LINE)
        tool, pid = traced(lambda: other.recv(100))
        one.send(LINE)
        hexed, _ = traced(lambda: other.recv(100), "--hexdump")
    banner, head, row = tool.stdout.splitlines()
    assert banner == "Dump UNIX socket packages RX. Ctrl-C to end"
    assert head.split() == ["TIME", "COMM", "PID", "SIZE", "DATA"]
    words = row.split(None, 4)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", words[0]) and words[2:] == [str(pid), str(len(LINE)), SHOWN]
    assert hexed.stdout.splitlines()[2].split(None, 4)[4] == LINE.hex(" ")


@pytest.mark.parametrize("length", [1, 7, 8, 9, 509, 511, 512, 513, 1999])
def test_any_length_also_at_the_end_of_memory(length: int) -> None:
    """Nothing behind the bytes is read, where the next page is not there; of long ones the beginning is shown."""
    one, other = socket.socketpair()
    sent = bytes(ord("a") + number % 23 for number in range(length))
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    with one, other:
        one.send(sent)
        tool, _ = traced(lambda: other.recv_into(memoryview(memory)[mmap.PAGESIZE - length :]), "--json")
    (found,) = records(tool)
    assert found["size"] == length
    assert found["data"] == sent[:512].decode() + ("..." if length > 512 else "")


def test_the_first_of_several_vectors() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"0123456789")
        tool, _ = traced(lambda: os.readv(other.fileno(), [bytearray(3), bytearray(100)]), "--json")
    assert [(one["size"], one["data"]) for one in records(tool)] == [(10, "012...")]


def test_what_is_no_packet() -> None:
    """Other sockets, pipes, files; looking without taking; the end; what fails."""
    one, other = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    pipe = os.pipe()

    def work() -> None:
        client.send(b"tcp")
        accepted.recv(100)
        os.write(pipe[1], b"pipe")
        os.read(pipe[0], 100)
        one.send(b"peeked")
        other.recv(100, socket.MSG_PEEK)
        other.recvmsg(100, 0, socket.MSG_PEEK)
        other.recv(100)
        try:
            other.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            one.shutdown(socket.SHUT_WR)
        other.recv(100)

    with one, other, server, client, accepted:
        tool, _ = traced(work, "--json")
    for fd in pipe:
        os.close(fd)
    assert [one["data"] for one in records(tool)] == ["peeked"]


def test_other_processes_are_left_out() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(LINE)
        stranger = Worker(lambda: other.recv(100))
        tool = Tool("undump", "-p", str(os.getpid()), "--json").start()
        stranger.work()
        tool.stop()
    assert records(tool) == []


@pytest.mark.anywhere
@pytest.mark.parametrize("words", ["5", "-p x", "--hex=3"])
def test_wrong_options_are_one_sentence(words: str) -> None:
    run = osmia("undump", *words.split())
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.splitlines()) == 1


@pytest.mark.anywhere
@pytest.mark.parametrize("command", (REPO / "tests" / "fixtures" / "bcc" / "undump.txt").read_text().splitlines())
def test_commands_that_bcc_documents(command: str) -> None:
    run = Tool(*command.replace("181", str(os.getpid())).split()).start().stop()
    assert run.status == 0 and run.stderr == ""
