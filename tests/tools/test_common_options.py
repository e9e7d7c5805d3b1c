# SPDX-License-Identifier: Apache-2.0
"""The options that every tool has, on every tool."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import FEW_PROGRAMS, TOOLS, Files, Tool, each_kind, osmia, told
from stir import stir

from osmia.kernel import cpus

pytestmark = pytest.mark.kernel

#: Tools about one file system.
SYSTEMS = ("ext4", "xfs", "btrfs", "nfs", "f2fs", "zfs")
#: Tools that have nothing to show where there is no such file system, or just then.
MAY_BE_EMPTY = [*[f"{system}slower" for system in SYSTEMS[1:]], "undump", "writeback"]
EVENT_TABLES = ["execsnoop", "opensnoop"]
HISTOGRAMS = ["biolatency", "biostacks", "bitesize", "cpudist", "cpuwalk", "hardirqs", "iolatency", "softirqs",
              "runqlat", "runqlen", "readahead", "ssllatency", "tcprtt", "wqlat",
              *[f"{system}dist" for system in SYSTEMS]]  # fmt: skip
#: First line with --csv.
HEADINGS = {
    **dict.fromkeys((*HISTOGRAMS, "futexctn"), "time,key,low,high,count"),
    "execsnoop": "COMM,PID,PPID,RET,ARGS", "exitsnoop": "PCOMM,PID,PPID,TID,AGE(s),EXIT_CODE",
    "opensnoop": "PID,COMM,FD,ERR,PATH", "runqslower": "TIME,COMM,TID,LAT(us)",
    "writeback": "TIME,DEVICE,PAGES,REASON,ms",
    "biopattern": "DISK,%RND,%SEQ,COUNT,KBYTES", "biotop": "PID,COMM,D,MAJ,MIN,DISK,I/O,Kbytes,AVGms",
    "gethostlatency": "TIME,PID,COMM,LATms,HOST", "tcpretrans": "TIME,PID,IP,LADDR:LPORT,T>,RADDR:RPORT,STATE",
    "tcpdrop": "TIME,PID,IP,SADDR:SPORT          >,DADDR:DPORT,STATE (FLAGS),REASON (CODE)",
    "tcpsubnet": "SUBNET,BYTES,SENT", "tcppktlat": "PID,TID,COMM,LADDR,LPORT,RADDR,RPORT,MS",
    "undump": "TIME,COMM,PID,SIZE,DATA",
    "killsnoop": "TIME,PID,COMM,SIG,TPID,RESULT", "pidpersec": "WHAT,COUNT", "syscount": "SYSCALL,COUNT",
    "slabratetop": "CACHE,ALLOCS,BYTES",
    "bashreadline": "TIME,PID,COMMAND", "capable": "TIME,UID,PID,COMM,CAP,NAME,AUDIT",
    "naptime": "TIME,PPID,PCOMM,PID,COMM,SECONDS", "setuids": "TIME,PID,COMM,UID,SYSCALL,ARGS (RET)",
    "sigsnoop": "TIME,PID,COMM,SIG,TPID,TCOMM,RESULT", "threadsnoop": "TIME(ms),PID,COMM,FUNC",
    "swapin": "COMM,PID,COUNT",
    "vfsstat": "WHAT,COUNT",
    "cpuunclaimed": "TIMESTAMP_ns," + ",".join(f"CPU{n}" for n in cpus.online()),
    "softirqslower": "TIME,STAGE,SOFTIRQ,LAT(us),CPU,COMM",
    **dict.fromkeys(("offcputime", "offwaketime", "profile", "wakeuptime"), "count,pid,comm,stack"),
    "filetop": "TID,COMM,READS,WRITES,R_Kb,W_Kb,T,FILE",
    "statsnoop": "PID,COMM,FD,ERR,PATH", "syncsnoop": "TIME(s),COMM,CALL", "shmsnoop": "PID,COMM,SYS,RET,ARGs",
    "mountsnoop": "COMM,PID,TID,MNT_NS,CALL", "sofdsnoop": "ACTION,TID,COMM,SOCKET,FD,NAME",
    "filegone": "TIME,PID,COMM,ACTION,FILE", "filelife": "TIME,PID,COMM,AGE(s),FILE",
    "fileslower": "TIME(s),COMM,TID,D,BYTES,LAT(ms),FILENAME", "dirtop": "READS,WRITES,R_Kb,W_Kb,PATH",
    "tcplife": "PID,COMM,IP,LADDR,LPORT,RADDR,RPORT,TX_KB,RX_KB,MS",
    "tcpstates": "SKADDR,C-PID,C-COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS",
    "solisten": "PID,COMM,PROTO,BACKLOG,PORT,ADDR", "bindsnoop": "PID,COMM,PROT,ADDR,PORT,OPTS,IF",
    "tcptracer": "T,PID,COMM,IP,SADDR,DADDR,SPORT,DPORT", "tcpconnlat": "PID,COMM,IP,SADDR,DADDR,DPORT,LAT(ms)",
    "tcptop": "PID,COMM,LADDR,LPORT,RADDR,RPORT,RX_BYTES,TX_BYTES",
    "tcpconnect": "PID,COMM,IP,SADDR,DADDR,DPORT", "tcpaccept": "PID,COMM,IP,RADDR,RPORT,LADDR,LPORT",
    **{f"{system}slower": "ENDTIME_us,TASK,PID,TYPE,BYTES,OFFSET_b,LATENCY_us,FILE" for system in SYSTEMS},
}  # fmt: skip
def enter_a_line() -> None:
    """In a bash on a terminal."""
    from test_bashreadline import bash

    with bash() as shell:
        shell.enter("true")


def compute() -> None:
    """Be on a CPU for ten of the samples that are taken 49 times a second."""
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass


#: What is done for tools that have nothing to show of the rest.
DONE: dict[str, Callable[[], object]] = {
    **dict.fromkeys(("cpuwalk", "profile", "runqlen"), compute),
    "bashreadline": enter_a_line, "capable": lambda: os.chroot("/"),
    "naptime": lambda: time.sleep(0.001), "setuids": lambda: os.setuid(os.getuid()),
    "threadsnoop": lambda: threading.Thread(target=int).start(),
}  # fmt: skip
#: What makes a tool have something to show that would not always have it.
WORDS = {"runqslower": ["0"], "ext4slower": ["0"], "fileslower": ["0"], "softirqslower": ["0"]}
#: What happens besides, for tools that would see nothing otherwise.
EVENTS = {"gethostlatency": ["getent", "ahostsv4", "127.0.0.1"]}
#: What sees nothing of what happens here, unless there is something else on this machine.
QUIET = ["tcpdrop", "tcppktlat", "tcpretrans"]
#: Of both ends of a connection.
ENDS = {"family", "laddr", "lport", "raddr", "rport"}
#: Fields of every record with --json, but the last one.
FIELDS = {
    **{tool: {"time", "unit", "histograms"} for tool in (*HISTOGRAMS, "futexctn")},
    "execsnoop": {"ts", "pid", "ppid", "uid", "cpu", "ret", "comm", "pcomm", "args", "args_truncated"},
    "offcputime": {"time", "count", "unit", "pid", "tid", "user", "kernel", "comm", "cut"},
    "offwaketime": {"time", "count", "unit", "pid", "tid", "user", "kernel", "comm", "wpid", "wtid", "wuser", "wkernel",
                    "wcomm", "cut"},
    "wakeuptime": {"time", "count", "unit", "pid", "tid", "kernel", "comm", "wpid", "wtid", "wcomm", "cut"},
    "profile": {"time", "count", "unit", "pid", "user", "kernel", "comm", "cut"},
    "opensnoop": {"ts", "pid", "tid", "uid", "fd", "err", "flags", "mode", "comm", "path"},
    "exitsnoop": {"ts", "start", "pid", "ppid", "tid", "exit_code", "signal", "core_dumped", "comm", "age"},
    **{f"{system}slower": {"ts", "ns", "offset", "size", "pid", "tid", "kind", "comm", "file", "type"}
       for system in SYSTEMS},
    **{tool: {"time", "unit", "histograms", "section"}
       for tool in ("bitesize", "hardirqs", "softirqs", "ssllatency", "readahead",
                    *[f"{system}dist" for system in SYSTEMS])},
    **{tool: {"time", "rows"} for tool in ("biopattern", "biotop", "dirtop", "filetop", "pidpersec", "slabratetop",
                                           "swapin", "syscount", "vfsstat")},
    "statsnoop": {"ts", "pid", "tid", "err", "call", "comm", "path", "fd", "sysname"},
    "syncsnoop": {"ts", "delta_ns", "pid", "tid", "call", "ret", "comm", "path", "what", "err"},
    "shmsnoop": {"ts", "ret", "arg1", "arg2", "arg3", "pid", "tid", "call", "comm", "sys", "args"},
    "mountsnoop": {"ts", "ret", "arg1", "arg2", "arg3", "arg4", "arg5", "pid", "tid", "ppid", "mnt_ns", "call", "comm",
                   "pcomm", "words", "words_truncated", "written"},
    "sofdsnoop": {"ts", "ino", "sock_ino", "pid", "tid", "action", "sock", "fd", "mode", "comm", "name", "what",
                  "socket", "file"},
    "filegone": {"ts", "pid", "tid", "action", "comm", "names", "names_truncated", "what", "file"},
    "filelife": {"ts", "root", "pid", "tid", "action", "comm", "names", "names_truncated", "age_ns", "age", "file"},
    "fileslower": {"ts", "delta_ns", "ret", "ino", "dev", "mode", "write", "pid", "tid", "comm", "name"},
    "gethostlatency": {"ts", "latency_ns", "pid", "tid", "ret", "function", "comm", "host"},
    "tcpretrans": {"ts", "pid", "seq", "segs", "local", "remote", "type", "state", *ENDS},
    "tcpdrop": {"ts", "pid", "comm", "source", "destination", "saddr", "sport", "daddr", "dport", "family", "state",
                "reason", "why", "kernel", "user", "kernel_stack", "user_stack"},
    "tcpsubnet": {"time", "rows"}, "tcppktlat": {"ts", "ns", "pid", "tid", "comm", *ENDS},
    "killsnoop": {"ts", "pid", "tid", "sig", "tpid", "ret", "comm"},
    "undump": {"ts", "size", "pid", "tid", "comm", "data"},
    "writeback": {"ts", "ns", "pages", "wanted", "cgroup", "reason", "dev", "device"},
    "cpuunclaimed": {"time", "cpu", "unclaimed", "rounds", "skewed"},
    "softirqslower": {"ts", "delta_us", "stage_number", "vec", "cpu", "comm", "stage", "softirq"},
    "runqslower": {"ts", "delta_us", "pid", "tid", "prev_tid", "comm", "prev_comm"},
    "bashreadline": {"ts", "pid", "tid", "uid", "command"},
    "capable": {"ts", "pid", "tid", "uid", "cap", "audit", "insetid", "ret", "kernel", "user", "comm", "name"},
    "naptime": {"ts", "at", "suspended", "requested", "pid", "tid", "ppid", "clock", "flags", "ret", "comm", "pcomm",
                "seconds", "took"},
    "setuids": {"ts", "pid", "tid", "uid", "euid", "call", "arg0", "arg1", "arg2", "ret", "new_uid", "new_euid", "comm",
                "syscall", "args"},
    "sigsnoop": {"ts", "pid", "tid", "sig", "tpid", "ttid", "ret", "code", "comm", "tcomm"},
    "threadsnoop": {"ts", "start", "pid", "tid", "comm", "func"},
    "tcplife": {"ts", "ns", "pid", "comm", "tx", "rx", *ENDS},
    "tcpstates": {"skaddr", "ts", "ns", "pid", "comm", "oldstate", "newstate", *ENDS},
    "tcptop": {"time", "rows"}, "tcptracer": {"ts", "pid", "comm", "netns", "type", *ENDS},
    "tcpconnlat": {"ts", "ns", "pid", "comm", "err", *ENDS},
    "solisten": {"ts", "pid", "comm", "netns", "backlog", "asked", "ret", "proto", *(ENDS - {"raddr"})},
    "bindsnoop": {"ts", "pid", "uid", "comm", "ret", "interface", "protocol", "opts", *(ENDS - {"raddr"})},
    "tcpconnect": {"ts", "pid", "uid", "comm", "query", *ENDS}, "tcpaccept": {"ts", "pid", "comm", *ENDS},
}  # fmt: skip
MINE = '''\
"""Calls of getpgid."""
from osmia import Event, Ring, Str, current, event_table, tracepoint, u32
from osmia.lang.filters import pid, wanted

class Call(Event):
    pid: u32
    name: Str[16]

calls = Ring(Call)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if wanted():
        with calls.reserve() as e:
            e.pid, e.name = current.tgid, "a b"

tool = event_table(calls)
'''


def traced(tool: str, *words: str) -> Tool:
    """``tool`` while a process opens 23 files, osmia itself executes something, and there is a connection."""
    with Files() as files:
        running = Tool(tool, *WORDS.get(tool, []), *words).start()
        for number in range(23):
            files.openat(f"/no/such/{number}")
        os.spawnlp(os.P_WAIT, "true", "true")
        DONE.get(tool, int)()
        stir()
        subprocess.run(EVENTS.get(tool, ["true"]), stdout=subprocess.DEVNULL, check=True)
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            server.accept()[0].close()
        return running.stop()


@pytest.mark.parametrize("tool", each_kind(TOOLS))
def test_csv_into_a_file(tool: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = traced(tool, "--csv", "-o", str(out))
    assert (done.status, done.stdout, told(done.stderr)) == (0, "", [])
    text = out.read_text()
    assert text.splitlines()[0] == HEADINGS[tool]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(None not in row and None not in row.values() for row in rows)
    if tool in EVENT_TABLES:
        assert any(row.get("PATH") == "/no/such/22" or row["COMM"] == "true" for row in rows)


@pytest.mark.parametrize("tool", TOOLS)
def test_json_into_a_file(tool: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = traced(tool, "--json", "-o", str(out))
    assert (done.status, done.stdout, told(done.stderr)) == (0, "", [])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert records or tool in (*MAY_BE_EMPTY, *QUIET)
    assert all(set(record) == FIELDS[tool] or (done.stderr and "lost" in record) for record in records)


@pytest.mark.parametrize("tool", each_kind(TOOLS))
def test_verbose(tool: str) -> None:
    done = osmia(tool, "-v", "--duration", "0.1")
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and all(line.startswith("osmia: ") for line in lines)
    loaded = re.findall(r"^osmia: (\w+): loaded, [\d,]+ instructions", done.stderr, re.M)
    assert len(loaded) >= FEW_PROGRAMS.get(tool, 3)
    ends = (": attached to ", ": left out: ")  # the second: an optional one that does not do here
    assert len([line for line in lines if any(end in line for end in ends)]) >= len(loaded)
    ends = [line for line in lines if ": attached to " in line or ": left out: " in line]
    assert len(ends) >= len(loaded)
    done_with = [line for line in lines if ": attached to " in line or ": left out: " in line]
    assert len(done_with) >= len(loaded)


@pytest.mark.anywhere
@pytest.mark.parametrize("flag", ["-t", "-T", "--timestamp"])
def test_time_of_summaries(flag: str) -> None:
    """The tool's own option has the common one's letters, too."""
    done = osmia("runqlat", flag, "--duration", "0.2")
    assert re.search(r"^\d\d:\d\d:\d\d$", done.stdout, re.M)


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-i", "0.2"], ["--interval=0.2"], ["0.2"]])
def test_interval(words: list[str]) -> None:
    done = osmia("runqlat", *words, "--duration", "1.5")
    assert done.returncode == 0 and done.stdout.count("distribution") >= 2


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["runqlat", "-i", "1", "1"], "option -i: the interval is there twice; leave one of them out"),
        (["runqlat", "-i", "0"], "runqlat: option -i: 0 is not a time: more than 0 seconds is needed"),
        (["opensnoop", "-i", "1"], "opensnoop: unknown option -i; see osmia opensnoop --help"),
        (["biolatency", "-d", "5"], "biolatency: option -d: there is no disk '5' (seconds are for --duration)"),
        (["execsnoop", "--json", "--csv"], "execsnoop: --json and --csv exclude each other"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text}\n")


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "first", "row"),
    [
        ([], r"TIME +PID +NAME", r"\d\d:\d\d:\d\d +{pid} a b"),
        (["--csv"], r"time,PID,NAME", r"\d{{10}}\.\d{{6}},{pid},a b"),
        (["--json"], None, r'\{{"time":\d{{10}}\.\d{{6}},"pid":{pid},"name":"a b"\}}'),
    ],
)
def test_time_of_events(words: list[str], first: str | None, row: str, tmp_path: Path) -> None:
    """-T gives events a time that have none of their own, in every form."""
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    tool = Tool("run", str(file), "-T", "-p", str(os.getpid()), *words).start()
    for _ in range(7):
        os.getpgid(0)
    tool.stop()
    lines = tool.stdout.splitlines()
    if first is not None:
        assert re.fullmatch(first, lines.pop(0).rstrip())
    assert len(lines) == 7
    assert all(re.fullmatch(row.format(pid=os.getpid()), line) for line in lines)
