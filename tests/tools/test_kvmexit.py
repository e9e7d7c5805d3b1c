# SPDX-License-Identifier: Apache-2.0
"""kvmexit's kernel half as plain Python, and live with a guest that leaves to user space a known number of times.

Where the CPU itself is virtual, KVM may emulate a guest without ever entering
it, and then nothing leaves it either; but it goes to user space for each byte
that the guest sends, and that is a tracepoint with the same shape.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import REPO, Tool, osmia, workload
from needs import skip_unbuilt

from osmia import machine
from osmia.kernel import tracefs
from osmia.tools import kvmexit

BYTES = 101
#: The text of the tracepoint's format, cut.
FORMAT = (
    '"reason %s%s%s rip 0x%lx", (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, '
    '{ 0, "EXCEPTION_NMI" }, { 12, "HLT" }, { 30, "IO_INSTRUCTION" }) : __print_symbolic(REC->exit_reason, '
    '{ 0x000, "read_cr0" }, { 0x040 + 14, "PF excp" }, { 0x078, "hlt" }, { 0x400, "npf" }), '
    '(REC->isa == 1 && REC->exit_reason & ~0xffff) ? " " : "", '
    '(REC->isa == 1) ? __print_flags(REC->exit_reason & ~0xffff, " ", { 0x80000000, "FAILED_VMENTRY" }) : "", '
    "REC->guest_rip"
)


@pytest.fixture
def fresh() -> Iterator[None]:
    kvmexit.reasons.clear()
    kvmexit.named(FORMAT)
    yield
    kvmexit.reasons.clear()
    kvmexit.exits.clear()
    kvmexit.vcpu.value = -1
    machine.tgid = machine.pid = 0


def leave(tid: int, isa: int, reason: int, vcpu: int = 0, times: int = 1) -> None:
    machine.tgid, machine.pid = 181, tid
    for _ in range(times):
        kvmexit.leave(SimpleNamespace(isa=isa, exit_reason=reason, vcpu_id=vcpu))


def entry(isa: int, number: int) -> Any:
    return SimpleNamespace(isa=isa, reason=number)


@pytest.mark.usefixtures("fresh")
def test_exits_are_counted_by_thread_and_reason() -> None:
    leave(182, kvmexit.VMX, 12, times=3)
    leave(183, kvmexit.VMX, 12, vcpu=1, times=5)
    leave(183, kvmexit.VMX, 30, vcpu=1)
    found = {(k.pid, k.tid, k.isa, k.reason): n for k, n in kvmexit.exits.items()}
    assert found == {(181, 182, 1, 12): 3, (181, 183, 1, 12): 5, (181, 183, 1, 30): 1}
    kvmexit.exits.clear()
    kvmexit.vcpu.value = 1
    leave(182, kvmexit.VMX, 12, vcpu=0)
    leave(183, kvmexit.VMX, 12, vcpu=1)
    assert [k.tid for k, _ in kvmexit.exits.items()] == [183]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("isa", "number", "name"),
    [
        (1, 12, "HLT"), (1, 0x8000_0000 | 30, "IO_INSTRUCTION"), (1, 77, "0x4d"), (2, 0x40 + 14, "PF excp"),
        (2, 0x78, "hlt"), (2, 0x400, "npf"), (3, 12, "0xc"),
    ],
)  # fmt: skip
def test_names_are_the_kernels(isa: int, number: int, name: str) -> None:
    """Those of Intel and of AMD by their own numbers; flags above Intel's are no part of it; others stay numbers."""
    assert kvmexit.reason(entry(isa, number)) == name


def kvm() -> None:
    if not tracefs.exists("kvm", "kvm_exit"):
        subprocess.run(["modprobe", "-q", "kvm"], check=False)
    if not tracefs.exists("kvm", "kvm_exit"):
        skip_unbuilt("KVM", "kvm", "KVM is not loaded, so there is no kvm:kvm_exit")


@pytest.mark.kernel
def test_names_of_this_kernel() -> None:
    kvm()
    if os.uname().machine != "x86_64":
        pytest.skip("reasons are those of x86-64 processors")
    kvmexit.reasons.clear()
    kvmexit.named(tracefs.format("kvm", "kvm_exit").partition("print fmt:")[2])
    assert kvmexit.reason(entry(1, 12)) == "HLT" and kvmexit.reason(entry(2, 0x78)) == "hlt"
    assert len(kvmexit.reasons) > 100


@pytest.mark.kernel
def test_without_kvm() -> None:
    if tracefs.exists("kvm", "kvm_exit"):
        done = osmia("kvmexit", "0.2")
        assert done.returncode == 0 and done.stdout.startswith("Display kvm exit reasons and statistics... Hit Ctrl-C")
        return
    done = osmia("kvmexit")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "osmia: kvmexit: this kernel has no KVM now: there is no tracepoint kvm:kvm_exit; "
        "load its module: modprobe kvm\n"
    )


@pytest.fixture
def userspace(tmp_path: Path) -> str:
    """The tool as a file, for exits to user space."""
    kvm()
    if subprocess.run([workload("guest"), "1"], capture_output=True, check=False).returncode:
        assert not os.access("/dev/kvm", os.R_OK | os.W_OK), "there is /dev/kvm, so a guest can be made"
        pytest.skip("no guest can be made here")
    text = (REPO / "src" / "osmia" / "tools" / "kvmexit.py").read_text()
    text = text.replace('@tracepoint("kvm:kvm_exit")', '@tracepoint("kvm:kvm_userspace_exit")')
    text = text.replace("call.exit_reason", "call.reason").replace("isa=call.isa", "isa=1").replace("call.vcpu_id", "0")
    path = tmp_path / "userspace.py"
    path.write_text(text)
    return str(path)


def rows(tool: Tool) -> list[list[str]]:
    return [line.split() for line in tool.stdout.splitlines()[3:] if line]


@pytest.mark.kernel
def test_exits_of_a_guest(userspace: str) -> None:
    """Each byte is one (KVM_EXIT_IO, 2), the halt at the end another (KVM_EXIT_HLT, 5); it has one thread."""
    command = [workload("guest"), str(BYTES), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        assert guest.stdin and guest.stdout
        mine = str(guest.pid)
        runs = [[], ["-p", mine], ["-p", mine, "-a"], ["-t", mine], ["-T", f"1,{mine}"], ["-p", mine, "--json"],
                ["-p", "1"]]  # fmt: skip
        tools = [Tool("run", userspace, *words).start() for words in runs]
        guest.stdin.write(b"\n")
        guest.stdin.flush()
        assert guest.stdout.readline() == b"%d 1\n" % BYTES
        for tool in tools:
            tool.stop()
            assert tool.status == 0 and tool.stderr == ""
        everything, process, threads, thread, some, records, other = tools
    assert everything.stdout.splitlines()[2] == f"{'PID':<8} {'TID':<8} {'KVM_EXIT_REASON':<35} COUNT"
    mine_of_all = [row[1:] for row in rows(everything) if row[0] == mine]
    assert [row[0] for row in mine_of_all] == [mine, mine] and [row[-1] for row in mine_of_all] == [str(BYTES), "1"]
    assert process.stdout.splitlines()[2] == f"{'KVM_EXIT_REASON':<35} COUNT"
    for tool in (process, thread):
        assert [row[-1] for row in rows(tool)] == [str(BYTES), "1"] and all(len(row) == 2 for row in rows(tool))
    for tool in (threads, some):
        assert tool.stdout.splitlines()[2] == f"{'TID':<8} {'KVM_EXIT_REASON':<35} COUNT"
        assert [(row[0], row[-1]) for row in rows(tool)] == [(mine, str(BYTES)), (mine, "1")]
    assert rows(other) == []
    found = json.loads(records.stdout.splitlines()[0])["rows"]
    assert [row["count"] for row in found] == [BYTES, 1] and set(found[0]) == {"name", "count"}


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-t", "1", "-v", "0"], "-t, -T, -v and -a exclude each other; give one of them"),
        (["-p", "0"], "option -p: '0' is no process id"),
        (["x"], "duration: 'x' is not a number of seconds"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("kvmexit", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(re.escape(f"osmia: kvmexit: {text}") + ".*\n", done.stderr)
