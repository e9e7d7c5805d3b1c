# SPDX-License-Identifier: Apache-2.0
"""sslsniff against connections over which known bytes go."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import REPO, Commanded, Tool, osmia, user_program
from tls import Others, Tls

pytestmark = pytest.mark.kernel

WRITE, READ, SHAKE = "WRITE/SEND", "READ/RECV", "HANDSHAKE"
#: A record of TLS has at most so many bytes (RFC 8446), and a call reads no more than one.
RECORD = 16384
TEXT = "GET /grüße HTTP/1.1\r\nHost: x\r\n\r\n".encode()
BINARY = bytes(range(256)) + b"\\x41\x1b[31m"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    with Tls(tmp_path) as made:
        yield made


def sniffed(*words: str, pid: str) -> Tool:
    """sslsniff on one process, about to trace."""
    return Tool("sslsniff", "-p", pid, *words).start()


def messages(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0 and tool.stderr == ""
    return tool.records()


def exact(record: dict[str, Any]) -> bytes:
    """The bytes of a message, from its JSON."""
    data: str = record["data"]
    return data.encode() if record["hex"] is None else bytes.fromhex(record["hex"])


def sides(records: list[dict[str, Any]], func: str) -> list[tuple[int, int, bytes]]:
    return [(one["size"], one["lost"], exact(one)) for one in records if one["func"] == func]


@pytest.mark.feature("B13 tools")
def test_every_byte_in_both_directions(tls: Tls) -> None:
    said = [(">", TEXT), ("<", BINARY), (">", b""), ("<", b"\0"), (">", b"\xff")]
    said += [(">", b"x" * 8191), ("<", b"y" * 8192)]
    said += [("<", b"%03d" % n) for n in range(23)]
    tool = sniffed("--json", pid=tls.pid)
    tls.exchange(*said)
    records = messages(tool.stop())
    whole = [(len(data), 0, data) for _, data in said]
    assert sides(records, WRITE) == whole
    assert sides(records, READ) == [one for one in whole if one[0]]  # nobody reads what is nothing
    assert {(one["pid"], one["uid"], one["comm"]) for one in records} == {(int(tls.pid), os.getuid(), "python")}
    assert {one["tid"] for one in records} == {int(tls.pid)}
    assert all(one["latency_ns"] > 0 for one in records)
    assert records[0]["data"] == TEXT.decode() and records[0]["hex"] is None
    assert r"\x80" in records[2]["data"]


def test_what_does_not_fit_is_counted(tls: Tls) -> None:
    data = bytes(n % 251 for n in range(20011))
    for words, most in (([], 8192), (["--max-buffer-size", "7"], 7), (["--max-buffer-size", "32000"], 32000)):
        tool = sniffed("--json", *words, pid=tls.pid)
        tls.exchange((">", data), ("<", b"1234567"))
        records = messages(tool.stop())
        there = min(most, len(data))
        assert sides(records, WRITE) == [(20011, 20011 - there, data[:there]), (7, 0, b"1234567")]
        first, rest = data[:RECORD], data[RECORD:]
        assert sides(records, READ) == [
            (len(part), max(0, len(part) - most), part[:most]) for part in (first, rest, b"1234567")
        ]


def test_rows_and_blocks(tls: Tls) -> None:
    tool = sniffed("--max-buffer-size", "40", pid=tls.pid)
    odd = b"tab\tnul\0 \xff\r red \x1b[31m\nend"
    tls.exchange((">", TEXT), ("<", odd), (">", b"z" * 53))
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    heading, *lines = tool.stdout.split("\n")
    assert heading == "FUNC         TIME(s)            COMM             PID     LEN"
    row = re.compile(r"^(\S+) +(\d+\.\d{9}) +python +(\d+) +(\d+)$")
    found = [row.match(line) for line in lines]
    rows = [one.groups() for one in found if one]
    assert [(func, pid, int(size)) for func, _, pid, size in rows] == [
        (func, tls.pid, size) for size in (len(TEXT), len(odd), 53) for func in (WRITE, READ)
    ]
    times = [float(time) for _, time, _, _ in rows]
    assert times[0] == 0 and times == sorted(times)
    blocks: list[list[str]] = [[]]
    for line, one in zip(lines, found, strict=True):
        if one:
            blocks.append([])
        else:
            blocks[-1].append(line)
    text = ["----- DATA -----", "GET /grüße HTTP/1.1", "Host: x", "", "", "----- END DATA -----", ""]
    binary = ["----- DATA -----", r"tab     nul\x00 \xff\r red \x1b[31m", "end", "----- END DATA -----", ""]
    cut = ["----- DATA -----", "z" * 40, "----- END DATA (TRUNCATED, 13 bytes lost) -----", ""]
    assert blocks[1:-1] == [text, text, binary, binary, cut] and blocks[-1] == [*cut, ""]


def test_hexdump_and_csv(tls: Tls) -> None:
    tool = sniffed("--hexdump", pid=tls.pid)
    tls.exchange(("<", BINARY))
    shown = re.findall(r"^----- DATA -----\n(.*?)\n----- END DATA -----\n$", tool.stop().stdout, re.M | re.S)
    assert [[len(line) for line in one.split("\n")] for one in shown] == [[32] * 16 + [18]] * 2
    assert [bytes.fromhex(one) for one in shown] == [BINARY] * 2
    for words, data in (([], r"\x00\xff\n\u20ac"), (["--hexdump"], "00ff0ae282ac")):
        tool = sniffed("--csv", *words, pid=tls.pid)
        tls.exchange(("<", "\0@\n€".encode().replace(b"@", b"\xff")))
        rows = list(csv.DictReader(io.StringIO(tool.stop().stdout)))
        assert [(one["FUNC"], one["LEN"], one["LOST"]) for one in rows] == [(WRITE, "6", "0"), (READ, "6", "0")]
        assert {one["DATA"].replace("€", r"\u20ac") for one in rows} == {data}


def test_columns_of_user_thread_and_latency() -> None:
    with Commanded("tls") as one:
        tool = sniffed("-ogn", "--extra-lib", f"openssl:{user_program('tls')}", "-xl", "--handshake", pid=one.pid)
        one.ask("shake")
        one.ask("write", 5)
        comm = Path(f"/proc/{one.pid}/comm").read_text().strip()
        tool.stop()
    assert tool.stderr == ""
    heading, shake, written, *_ = tool.stdout.split("\n")
    assert heading.split() == ["FUNC", "TIME(s)", "COMM", "PID", "LEN", "UID", "TID", "LAT(ms)"]
    *front, took = shake.split()
    assert front == [SHAKE, "0.000000000", comm, one.pid, "0", str(os.getuid()), one.pid]
    assert re.fullmatch(r"\d+\.\d{3}", took) and float(took) >= 30  # it sleeps so long; and it has no data below
    assert written.split()[0] == WRITE and float(written.split()[-1]) < float(took)


def test_handshakes_are_shown_when_asked_for(tls: Tls) -> None:
    for words, times in ((["--handshake"], 2), ([], 0)):
        tool = sniffed("--json", *words, pid=tls.pid)
        tls.talk(1)
        records = messages(tool.stop())
        assert [(one["size"], one["data"]) for one in records if one["func"] == SHAKE] == [(0, "")] * times
        assert len(records) == times + 4
    tool = sniffed("--json", "--handshake", pid=tls.pid)
    tls.refuse()  # at least one of both ends fails, and that one is not shown
    assert len(messages(tool.stop())) <= 1


def of_its_own(*asked: tuple[Any, ...]) -> list[tuple[str, int, int, bytes]]:
    """What the program that has functions of its own is seen to do."""
    with Commanded("tls") as one:
        words = ["-ogn", "--handshake", "--extra-lib", f"openssl:{user_program('tls')}"]
        tool = sniffed("--json", *words, pid=one.pid)
        for words_ in asked:
            one.ask(*words_)
        records = messages(tool.stop())
    return [(one_["func"], one_["size"], one_["lost"], exact(one_)) for one_ in records]


def test_both_forms_of_each_function() -> None:
    found = of_its_own(("write", 3), ("read", 7), ("write_ex", 11), ("read_ex", 8209), ("read_ex", 0))
    assert found == [
        (WRITE, 3, 0, b"www"), (READ, 7, 0, b"r" * 7), (WRITE, 11, 0, b"w" * 11), (READ, 8209, 17, b"r" * 8192),
        (READ, 0, 0, b""),
    ]  # fmt: skip


def test_calls_that_fail_are_not_shown() -> None:
    assert of_its_own(("fail",), ("write", 13), ("fail",)) == [(WRITE, 13, 0, b"w" * 13)]


def test_a_call_within_a_call() -> None:
    """As over a proxy to which one talks by TLS, too."""
    assert of_its_own(("nest",), ("read", 2)) == [
        (READ, 5, 0, b"inner"), (READ, 9, 0, b"outer one"), (READ, 2, 0, b"rr"),
    ]  # fmt: skip


def test_bytes_that_are_not_there_are_counted() -> None:
    assert of_its_own(("gone", 4099), ("write", 2)) == [(WRITE, 4099, 4099, b""), (WRITE, 2, 0, b"ww")]


@pytest.mark.parametrize(("library", "letter"), [("openssl", "-o"), ("gnutls", "-g"), ("nss", "-n")])
def test_libraries(library: str, letter: str, tmp_path: Path) -> None:
    """Each is seen, and is not with its letter; with those of the others it is."""
    with Others(tmp_path) as others:
        said = others.say(library, 1)
        if said != "done":
            pytest.skip(f"{library} is not installed: {said}")
        tool = sniffed("--json", pid=others.pid)
        others.say(library, 7)
        records = messages(tool.stop())
        left_out = sniffed("--json", letter, pid=others.pid)
        others.say(library, 3)
        assert messages(left_out.stop()) == []
        alone = sniffed("--json", "-" + "ogn".replace(letter[1], ""), pid=others.pid)
        others.say(library, 3)
        assert len(messages(alone.stop())) == len(records) * 3 // 7
    asks, answers = [b"ask %03d" % n for n in range(7)], [b"answer %03d" % n for n in range(7)]
    talk = [text for pair in zip(asks, answers, strict=True) for text in pair]
    wanted = [*asks, *talk] if library == "nss" else talk  # one way through a pipe, then both through a socket
    assert [data for _, _, data in sides(records, WRITE)] == wanted
    assert [data for _, _, data in sides(records, READ)] == wanted


@pytest.mark.parametrize(("words", "shown"), [
    (["-c", "python"], True), (["-c", "pytho"], False), (["--comm", "curl"], False),
    (["-u", str(os.getuid())], True), (["--uid", "54321"], False),
    (["--tid", "{pid}"], True), (["--tid", "1"], False),
])  # fmt: skip
def test_filters(tls: Tls, words: list[str], shown: bool) -> None:
    tool = sniffed("--json", *[word.format(pid=tls.pid) for word in words], pid=tls.pid)
    tls.talk(3)
    records = messages(tool.stop())
    # A client, which is the first thread, writes and reads three messages; so does a server.
    assert len(records) == (0 if not shown else 6 if "--tid" in words else 12)


def test_other_processes_are_left_out(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Tls(tmp_path / "other") as other:
        tool = sniffed("--json", pid=other.pid)
        tls.talk(3)
        assert messages(tool.stop()) == []


def test_a_command_and_what_it_starts(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("talk 5 0\n")
    command = f"python3 {tmp_path}/tls.py {tmp_path} <{tmp_path}/input >{tmp_path}/output; true"
    done = osmia("sslsniff", "--json", "--cmd", f"sh -c '{command}'")
    assert done.returncode == 0 and done.stderr == ""
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for func in (WRITE, READ):
        assert sorted(sides(records, func)) == [(3, 0, b"yes")] * 5 + [(10, 0, b"0123456789")] * 5


def test_a_recording_has_every_byte(tls: Tls, tmp_path: Path) -> None:
    tool = Tool("record", "-o", str(tmp_path / "rec"), "sslsniff", "-p", tls.pid).start()
    tls.exchange((">", TEXT), ("<", BINARY))
    tool.stop()
    done = osmia("replay", str(tmp_path / "rec"), "--json")
    assert done.returncode == 0, done.stderr
    tool.stdout = done.stdout
    records = [one for one in tool.records() if "func" in one]
    assert [exact(one) for one in records] == [TEXT, TEXT, BINARY, BINARY]


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "said"), [
    ("--max-buffer-size 0", "'0' is not a whole number from 1"),
    ("--max-buffer-size 32001", "32001 bytes are too many: at most 32000"),
    ("--extra-lib /no/such", "'/no/such' is not KIND:FILE, and KIND one of openssl, gnutls, nss"),
    ("--extra-lib ssl:/bin/sh", "'ssl:/bin/sh' is not KIND:FILE, and KIND one of openssl, gnutls, nss"),
    ("--extra-lib nss:/no/such", "/no/such: there is no such file"),
    ("-ogn", "no library is left"),
])  # fmt: skip
def test_mistakes(words: str, said: str) -> None:
    done = osmia("sslsniff", *words.split())
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
    assert said in done.stderr


@pytest.mark.anywhere
@pytest.mark.parametrize("command", (REPO / "tests" / "fixtures" / "bcc" / "sslsniff.txt").read_text().splitlines())
def test_commands_that_bcc_documents(command: str) -> None:
    words = shlex.split(command.replace("181", str(os.getpid())).replace("/path/libssl.so.1.1", user_program("tls")))
    run = Tool(*words).start().stop()
    assert run.status == 0 and run.stderr == ""
