# SPDX-License-Identifier: Apache-2.0
"""sofdsnoop against a program that passes known descriptors on to itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from script import Script, traced

from osmia.kernel import features

pytestmark = pytest.mark.kernel

BEFORE = """
import array, json, struct
left, right = socket.socketpair()
passing = socket.socketpair()
passing[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
kept = os.open("kept", os.O_CREAT | os.O_RDWR)
pipe = os.pipe()
udp = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
inet = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(inet.getsockname())
server, _ = inet.accept()
"""
#: Three messages with five descriptors; and messages without, on other sockets, that fail, that only look.
WORK = """
socket.send_fds(left, [b"x"], [kept])
socket.send_fds(left, [b"x"], [pipe[0], udp[0].fileno()])
first, second = socket.recv_fds(right, 1, 9)[1], socket.recv_fds(right, 1, 9)[1]
socket.send_fds(passing[0], [b"x"], [kept, pipe[1]])
_, ancillary, _, _ = passing[1].recvmsg(1, 1000)
third = [fd for _, kind, data in ancillary if kind == 1 for fd in struct.unpack(f"{len(data) // 4}i", data)]
assert len(ancillary) == 2
left.sendmsg([b"nothing"])
right.recvmsg(10, 1000)
server.sendmsg([b"tcp"])
client.recvmsg(10, 1000)
try:
    socket.send_fds(left, [b"x"], [987])
    os._exit(3)
except OSError:
    pass
right.setblocking(False)
try:
    right.recvmsg(10, 1000)
    os._exit(3)
except BlockingIOError:
    pass
inodes = {fd: os.fstat(fd).st_ino for fd in range(3, 60) if os.path.exists(f"/proc/self/fd/{fd}")}
numbers = dict(kept=kept, read=pipe[0], write=pipe[1], unix=udp[0].fileno(), left=left.fileno(), right=right.fileno(),
               here=passing[0].fileno(), there=passing[1].fileno())
answer = json.dumps([first, second, third, numbers, inodes])
os.write(os.open("answers", os.O_CREAT | os.O_WRONLY), answer.encode())
"""


def expected(directory: Path) -> list[tuple[str, str, int, str]]:
    """ACTION, SOCKET, FD and NAME of all rows."""
    first, second, third, fds, inodes = json.loads((directory / "answers").read_text())
    sock = {name: f"{fds[name]}:socket:[{inodes[str(fds[name])]}]" for name in ("left", "right", "here", "there")}
    kept, pipe = f"{directory}/kept", f"pipe:[{inodes[str(fds['read'])]}]"
    unix = f"socket:[{inodes[str(fds['unix'])]}]"
    return [
        ("SEND", sock["left"], fds["kept"], kept), ("SEND", sock["left"], fds["read"], pipe),
        ("SEND", sock["left"], fds["unix"], unix), ("RECV", sock["right"], first[0], kept),
        ("RECV", sock["right"], second[0], pipe), ("RECV", sock["right"], second[1], unix),
        ("SEND", sock["here"], fds["kept"], kept), ("SEND", sock["here"], fds["write"], pipe),
        ("RECV", sock["there"], third[0], kept), ("RECV", sock["there"], third[1], pipe),
    ]  # fmt: skip


def test_every_descriptor(tmp_path: Path) -> None:
    """On both sides, with the numbers of either; credentials that come along do not disturb."""
    tool, pid = traced("sofdsnoop", work=WORK, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "ACTION TID    COMM             SOCKET                    FD    NAME"
    assert tool.rows() == [f"{action:<6} {pid:<6} script           {sock:<25} {fd:<5} {name}"
                           for action, sock, fd, name in expected(tmp_path)]  # fmt: skip


def test_json(tmp_path: Path) -> None:
    tool, pid = traced("sofdsnoop", "--json", work=WORK, before=BEFORE, cwd=tmp_path)
    records = tool.records()
    assert [(one["what"], one["socket"], one["fd"], one["file"]) for one in records] == expected(tmp_path)
    assert {(record["pid"], record["tid"]) for record in records} == {(pid, pid)}
    assert [record["name"] for record in records if record["file"].endswith("/kept")] == ["kept"] * 4


@pytest.mark.anywhere
def test_a_name_of_the_past(tmp_path: Path) -> None:
    """Where the descriptor is closed by the time the row is made, the file's own name has to do."""
    work = """
for n in range(7):
    fd = os.open("kept", os.O_RDONLY)
    socket.send_fds(left, [b"x"], [fd])
    os.close(fd)
"""
    tool, _ = traced("sofdsnoop", work=work, before=BEFORE, cwd=tmp_path)
    names = [row.split()[-1] for row in tool.rows()]
    assert len(names) == 7 and set(names) <= {"kept", f"{tmp_path}/kept"}


def test_many_at_once(tmp_path: Path) -> None:
    """253, as many as a message may have; kernels without bpf_loop (before 5.17) show 64, and say so."""
    work = "socket.send_fds(left, [b'x'], [kept] * 253)"
    tool, _ = traced("sofdsnoop", "--json", work=work, before=BEFORE, cwd=tmp_path)
    rows = [record for record in tool.records() if "fd" in record]
    if features.has("bpf_loop"):
        assert len(rows) == 253 and tool.stderr == ""
    else:
        lost = {"descriptors, of which there were more than 64 in a message": 189}
        assert len(rows) == 64 and tool.records()[-1]["lost"] == lost


@pytest.mark.anywhere
def test_times_and_threads(tmp_path: Path) -> None:
    work = """
def send():
    socket.send_fds(left, [b"x"], [kept])
for n in range(3):
    send()
    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
"""
    with Script(work, before=BEFORE, cwd=tmp_path) as script:
        tool = Tool("sofdsnoop", "-T", "-t", str(script.pid)).start()
        script.go()
        rows = tool.stop().rows()
    assert tool.stdout.splitlines()[0].split() == ["TIME(s)", "ACTION", "TID", "COMM", "SOCKET", "FD", "NAME"]
    assert len(rows) == 3 and rows[0].startswith("0.000000000    SEND ")
    assert all(re.match(rf"\d+\.\d{{9}} +SEND +{script.pid} +script ", row) for row in rows)


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-p", "{one}"], ["-n", "one"], ["-t", "{one}"]])
def test_others_are_left_out(words: list[str], tmp_path: Path) -> None:
    work = "for n in range(7):\n    socket.send_fds(left, [b'x'], [kept])"
    with Script(work, before=BEFORE, cwd=tmp_path, name="one") as one:  # noqa: SIM117 - one before the other
        with Script(work, before=BEFORE, cwd=tmp_path, name="other") as other:
            tool = Tool("sofdsnoop", *[word.format(one=one.pid) for word in words]).start()
            one.go()
            other.go()
            rows = tool.stop().rows()
    assert [row.split()[:3] for row in rows] == [["SEND", str(one.pid), "one"]] * 7


@pytest.mark.anywhere
def test_no_such_thread() -> None:
    done = osmia("sofdsnoop", "-t", "4194304")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
