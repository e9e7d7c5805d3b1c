# SPDX-License-Identifier: Apache-2.0
"""tcppktlat against a reader that lets data wait for a known time."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import Tool, osmia
from patience import patient
from tunnel import FAR, FAR6, NEAR, Cable, cable
from wired import ENDS, FAMILY, PORT, arrived

pytestmark = pytest.mark.kernel

WAIT = 0.03  # seconds
TIMES = 7
ME = os.getpid()
ROW = re.compile(r"^(\d\d:\d\d:\d\d )?(\d+) +(\d+) +(\S+) +(\S+) +(\d+) +(\S+) +(\d+) +(\d+\.\d\d)$")


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@contextmanager
def pair(wire: Cable, host: str = FAR) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the near end, which sends, and the far one, which reads."""
    with wire.net.other_end():
        server = socket.create_server((host, PORT), family=FAMILY[host])
    with server, socket.create_connection((host, PORT)) as near:
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far, _ = server.accept()
        with far:
            far.settimeout(patient(10))
            near.sendall(b"x")  # until then it is not known to both as established
            assert far.recv(1) == b"x"
            yield near, far


def wait_and_read(near: socket.socket, far: socket.socket, times: int = TIMES, wait: float = WAIT) -> list[float]:
    """Send, wait, read, so many times; milliseconds that each can have waited at most."""
    most = []
    for _ in range(times):
        start = time.monotonic_ns()
        near.sendall(b"0123456789")
        arrived(near)
        time.sleep(wait)
        assert len(far.recv(100)) == 10
        most.append((time.monotonic_ns() - start) / 1e6)
    return most


def records(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0 and tool.stderr == ""
    return [one for one in tool.records() if "ns" in one]


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_every_wait_has_a_row_and_its_time(wire: Cable, host: str) -> None:
    with pair(wire, host) as (near, far):
        tool = Tool("tcppktlat", "-p", str(ME), "-l", str(PORT)).start()
        most = wait_and_read(near, far)
        tool.stop()
        port = near.getsockname()[1]
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0].split() == ["PID", "TID", "COMM", "LADDR", "LPORT", "RADDR", "RPORT", "MS"]
    found = [ROW.match(line) for line in tool.rows()]
    assert len(found) == TIMES
    for row, bound in zip(found, most, strict=True):
        assert row and (row[2], row[3]) == (str(ME), str(threading.get_native_id()))
        assert (row[5], row[6], row[7], row[8]) == (host, str(PORT), ENDS[host], str(port))
        assert float(row[9]) + 0.01 >= WAIT * 1e3 and float(row[9]) <= bound + 0.01


def test_json(wire: Cable) -> None:
    with pair(wire) as (near, far):
        tool = Tool("tcppktlat", "--json", "-l", str(PORT)).start()
        wait_and_read(near, far, 3)
        found = records(tool.stop())
        port = near.getsockname()[1]
    assert [(one["pid"], one["laddr"], one["lport"], one["raddr"], one["rport"], one["family"]) for one in found] == [
        (ME, FAR, PORT, NEAR, port, 2)
    ] * 3
    assert all(one["ns"] >= WAIT * 1e9 for one in found)


def test_what_has_waited_longest(wire: Cable) -> None:
    """Several segments before one call reads them: it is the first one's time."""
    with pair(wire) as (near, far):
        tool = Tool("tcppktlat", "--json", "-l", str(PORT)).start()
        start = time.monotonic_ns()
        for _ in range(5):
            near.sendall(b"0123456789")
            arrived(near)
            time.sleep(WAIT)
        assert len(far.recv(1000)) == 50
        most = time.monotonic_ns() - start
        (one,) = records(tool.stop())
    assert 5 * WAIT * 1e9 <= one["ns"] <= most


def test_what_comes_again_is_no_arrival(wire: Cable) -> None:
    """A second copy of a segment comes when it has been read: the next wait does not begin with that."""
    with pair(wire) as (near, far):
        tool = Tool("tcppktlat", "--json", "-l", str(PORT)).start()
        copies: list[bytes] = []

        def deliver(segment: Any) -> list[bytes]:
            if segment.outward and segment.size:
                copies.append(segment.data)
            return [segment.data]

        wire.deliver = deliver
        most = wait_and_read(near, far, 1)
        wire.deliver = lambda segment: [segment.data]
        os.write(wire.far_file, copies[0])
        time.sleep(0.3)
        most += wait_and_read(near, far, 1)
        found = records(tool.stop())
    assert len(copies) == 1 and len(found) == 2
    assert all(one["ns"] <= bound * 1e6 for one, bound in zip(found, most, strict=True))


def test_readers_that_wait_for_data(wire: Cable) -> None:
    """Then the data hardly waits for them: none that is longer than the time the reader took to wake up."""
    with pair(wire) as (near, far):
        tool = Tool("tcppktlat", "--json", "-l", str(PORT)).start()
        took = []

        def read() -> None:
            for _ in range(TIMES):
                far.recv(100)
                took.append(time.monotonic_ns())

        thread = threading.Thread(target=read)
        thread.start()
        starts = []
        for number in range(TIMES):
            time.sleep(0.05)
            starts.append(time.monotonic_ns())
            near.sendall(b"0123456789")
            while len(took) == number:
                time.sleep(0.001)
        thread.join()
        found = records(tool.stop())
    assert len(found) == TIMES and {one["tid"] for one in found} == {thread.native_id}
    for one, start, end in zip(found, starts, took, strict=True):
        assert one["ns"] <= end - start


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-p", str(ME)], 3), (["-p", "1"], 0), (["-t", "SELF"], 3), (["-t", "1"], 0), (["-l", str(PORT)], 3),
     (["-r", str(PORT)], 0), (["-r", "NEAR"], 3), (["-n", "no-such"], 0), (["1000"], 3), (["60000000"], 0)],
)  # fmt: skip
def test_filters(wire: Cable, words: list[str], count: int) -> None:
    with pair(wire) as (near, far):
        port = near.getsockname()[1]
        names = {"SELF": str(threading.get_native_id()), "NEAR": str(port)}
        tool = Tool("tcppktlat", "--json", *[names.get(word, word) for word in words]).start()
        wait_and_read(near, far, 3)
        found = [one for one in records(tool.stop()) if (one["lport"], one["rport"]) == (PORT, port)]
    assert len(found) == count


def test_columns(wire: Cable) -> None:
    with pair(wire, FAR6) as (near, far):
        tool = Tool("tcppktlat", "-T", "-w", "-l", str(PORT)).start()
        wait_and_read(near, far, 1)
        tool.stop()
    heading, row = tool.stdout.splitlines()
    assert heading.startswith("TIME(s)  PID     TID     COMM             LADDR                      LPORT RADDR  ")
    found = ROW.match(row)
    assert found and found[1] and row[42:69] == f"{FAR6:<27}"


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["0"], "min_us: '0' is not a number of microseconds from 1"), (["x"], "min_us: 'x' is not a number of"),
     (["-l", "x"], "option -l: 'x' is not a port"), (["-t", "0"], "option -t: ")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("tcppktlat", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"osmia: tcppktlat: {said}") and done.stderr.count("\n") == 1
