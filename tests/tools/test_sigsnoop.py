# SPDX-License-Identifier: Apache-2.0
"""sigsnoop against signals that this process sends, and against those that the kernel makes."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Told, Tool, osmia

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(.{16}) (\S+) +(-?\d+) +(.{16}) (-?\d+|[a-z ]+)$")
NOBODY = 4_194_304  # one more than the largest number of a process
ME = os.getpid()
#: Handles USR1, ignores HUP, blocks USR2 and a real-time signal; "alarm": is sent SIGALRM by a timer.
PROGRAM = """
import signal, sys, time
open("/proc/self/comm", "w").write("receiver")
for number in (signal.SIGUSR1, signal.SIGALRM):
    signal.signal(number, lambda *_: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, 40])
for line in sys.stdin:
    if line == "alarm\\n":
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.pause()
    print("done", flush=True)
"""


@pytest.fixture
def target() -> Iterator[Told]:
    with Told(sys.executable, "-c", PROGRAM) as program:
        assert program.tell("") == "done\n"
        yield program


def send(target: Told) -> list[tuple[int, int, str, str]]:
    """Send 29 signals, one after the other; SIG, TPID, TCOMM and RESULT of their rows."""
    pid, expected = int(target.pid), []
    for number, times in ((10, 7), (1, 5), (12, 4), (40, 3), (18, 3)):
        for n in range(times):
            os.kill(pid, number)
            assert target.tell("") == "done\n"  # it has handled it
            result = "ignored" if number in (1, 18) else "pending" if number == 12 and n else "0"
            expected.append((number, pid, "receiver", result))
    signal.pthread_kill(threading.get_ident(), 23)  # SIGURG
    expected.append((23, ME, own_name(), "ignored"))
    return expected


def own_name() -> str:
    return Path(f"/proc/{ME}/comm").read_text().strip()


def rows(tool: Tool) -> list[tuple[int, str, str, int, str, str]]:
    """PID, COMM, SIG, TPID, TCOMM and RESULT of all rows, but the one about the signal that ended the tool."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0].split() == ["TIME", "PID", "COMM", "SIG", "TPID", "TCOMM", "RESULT"]
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    shown = [(int(r[2]), r[3].rstrip(), r[4], int(r[5]), r[6].rstrip(), r[7]) for r in found if r]
    return [row for row in shown if row[3] != tool.pid]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], lambda row: True),
        (["-s", "1,12"], lambda row: row[0] in (1, 12)),
        (["-s", "SIGUSR1"], lambda row: row[0] == 10),
        (["-s", "40"], lambda row: row[0] == 40),
        (["-x"], lambda row: row[3] != "0"),
        (["-x", "-s", "USR2"], lambda row: row[0] == 12 and row[3] == "pending"),
        (["-T", str(ME)], lambda row: row[0] == 23),
        (["--comm", "nobody"], lambda row: False),
        (["--uid", "54321"], lambda row: False),
    ],
)
def test_every_signal_has_a_row(target: Told, words: list[str], chosen: object) -> None:
    tool = Tool("sigsnoop", "-p", str(ME), *words).start()
    expected = [(str(row[0]), *row[1:]) for row in send(target) if chosen(row)]  # type: ignore[operator]
    assert rows(tool.stop()) == [(ME, own_name(), *row) for row in expected]


def test_names(target: Told) -> None:
    tool = Tool("sigsnoop", "-n", "-p", str(ME)).start()
    send(target)
    names = [row[2] for row in rows(tool.stop())]
    assert names == ["SIGUSR1"] * 7 + ["SIGHUP"] * 5 + ["SIGUSR2"] * 4 + ["SIGNAL-40"] * 3 + ["SIGCONT"] * 3 + [
        "SIGURG"
    ]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [([], (True, True)), (["-x"], (False, True)), (["-s", "9"], (False, True)),
     (["-s", "10,1,12,40,18,URG"], (True, False)), (["-T", str(NOBODY)], (False, True))],
)  # fmt: skip
def test_calls_and_their_results(target: Told, words: list[str], chosen: tuple[bool, bool]) -> None:
    """-k: also of those to nobody, and 0 of those that are ignored."""
    tool = Tool("sigsnoop", "-k", "-p", str(ME), *words).start()
    sent = send(target)
    for _ in range(11):
        with pytest.raises(ProcessLookupError):
            os.kill(NOBODY, signal.SIGKILL)
    expected = [(str(row[0]), *row[1:3], "0") for row in sent] * chosen[0]
    expected += [("9", NOBODY, "N/A", "-3")] * 11 * chosen[1]
    assert rows(tool.stop()) == [(ME, own_name(), *row) for row in expected]


def test_a_question_whether_somebody_is_there(target: Told) -> None:
    """Signal 0 is a call, and no signal."""
    calls, signals = Tool("sigsnoop", "-kn", "-p", str(ME)).start(), Tool("sigsnoop", "-p", str(ME)).start()
    os.kill(int(target.pid), 0)
    assert rows(calls.stop()) == [(ME, own_name(), "N/A", int(target.pid), "N/A", "0")]
    assert not [row for row in rows(signals.stop()) if row[3] != calls.pid]


def test_signals_of_the_kernel(target: Told) -> None:
    """A timer's: whoever was running then is shown as its sender; and what the end of a child is."""
    tool = Tool("sigsnoop", "--json", "-T", target.pid).start()
    for _ in range(3):
        assert target.tell("alarm") == "done\n"
    found = [one for one in tool.stop().records() if one["sig"] == signal.SIGALRM]
    assert [(one["tpid"], one["ttid"], one["tcomm"], one["ret"], one["code"]) for one in found] == [
        (int(target.pid), int(target.pid), "receiver", 0, 0x80)
    ] * 3
    tool = Tool("sigsnoop", "--json", "-T", str(ME), "-s", "CHLD").start()
    status = os.spawnlp(os.P_WAIT, "true", "true")
    (record,) = [one for one in tool.stop().records() if one["comm"] == "true"]
    assert status == 0 and (record["sig"], record["tpid"], record["code"]) == (17, ME, 1)  # CLD_EXITED


def test_json(target: Told) -> None:
    tool = Tool("sigsnoop", "--json", "-p", str(ME), "-s", "USR1").start()
    os.kill(int(target.pid), signal.SIGUSR1)
    (record,) = tool.stop().records()
    assert set(record) == {"ts", "pid", "tid", "sig", "tpid", "ttid", "ret", "code", "comm", "tcomm"}
    assert (record["pid"], record["tid"], record["sig"], record["code"]) == (ME, ME, 10, 0)  # SI_USER
    assert (record["tpid"], record["tcomm"], record["ret"]) == (int(target.pid), "receiver", 0)


def test_all_senders(target: Told) -> None:
    tool = Tool("sigsnoop", "-T", target.pid).start()
    os.system(f"kill -HUP {target.pid}")
    os.kill(int(target.pid), signal.SIGHUP)
    found = rows(tool.stop())
    assert len(found) == 2 and found[1][0] == ME != found[0][0]


@pytest.mark.anywhere
@pytest.mark.parametrize("word", ["NOPE", "0", "65", "9,x"])
def test_no_such_signal(word: str) -> None:
    done = osmia("sigsnoop", "-s", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"osmia: sigsnoop: option -s: there is no signal '\w*'\n", done.stderr)
