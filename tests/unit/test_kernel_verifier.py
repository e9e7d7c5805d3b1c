# SPDX-License-Identifier: Apache-2.0
"""Real verifier logs (Linux 6.18, from tests/fixtures/live/bad.c) and how older kernels put it."""

from __future__ import annotations

import errno
import pathlib

import pytest

from osmia.load.verifier import Places, explain, is_complete, locked_down, read_by_helper

LOGS = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "verifier"

EXPECTED = {
    "null_value": ("a value that may be absent", "check it for None"),
    "null_record": ("a value that may be absent", "check it for None"),
    "scalar_address": ("a plain number is used as an address", "read_kernel()"),
    "unknown_helper": ("helper number 9999 is not known here", "does not have it"),
    "wrong_helper": ("helper bpf_redirect is not allowed", "another hook"),
    "leaked_record": ("not released on every path", "submit or discard"),
    "endless": ("a loop without a visible end", "constant bound"),
    "too_long": ("too complex: 8193 jumps", "fewer branches"),
    "lost_field": ("this kernel has no task_struct.no_such_member", "guard it with exists"),
    "modified_ctx": ("a context field is reached by a computed address", "into a variable"),
    "computed_ctx": ("the context is indexed by a value that is not constant", "by its name"),
    "beyond_ctx": ("8 bytes at offset 4800 of the context", "does not offer"),
    "beyond_value": ("8 bytes at offset 8 of a map value that has 8 bytes", "check the index"),
    "unbounded_index": ("an index into map_value that has no bounds", "0 <= i"),
    "unbounded_length": ("a length or index that may be negative", "unsigned"),
    "written_option": ("a write to a constant (an option)", "cannot change"),
    "beyond_stack": ("stack access at offset -520 is out of bounds", "in a map"),
    "deep_stack": ("608 bytes of stack in 2 nested functions", "in a map"),
    "unset": ("a value is used that was never set", "on every path"),
    "wrong_map": ("a helper is given no memory", "this kind of map"),
}


def test_every_log_is_covered() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_logs(name: str) -> None:
    log = (LOGS / f"{name}.log").read_text()
    error = explain(log, errno.EACCES, name=name, field=lambda insn: "task_struct.no_such_member")
    what, fix = EXPECTED[name]
    assert what in error.what and fix in error.fix
    assert error.what.startswith(f"the kernel rejects program {name}: ")
    assert error.log == log and is_complete(log)
    assert "bad.c:" in error.where or name == "deep_stack"
    assert "\n" not in str(error)


def test_the_line_is_found_by_instruction_number() -> None:
    """Kernels before 6.9 name no file: the program's own line table does."""
    log = "0: R1=ctx(off=0,imm=0) R10=fp0\n; return *p;\n0: (79) r1 = *(u64 *)(r1 +8)\n1: (79) r0 = *(u64 *)(r1 +0)\n" \
          "R1 invalid mem access 'inv'\nprocessed 2 insns (limit 1000000) max_states_per_insn 0\n"  # fmt: skip
    places = Places([(0, "tool.py", 10, "    def f(ctx):"), (8, "tool.py", 12, "        return x[0]"),
                     (16, "tool.py", 13, "")])  # fmt: skip
    error = explain(log, errno.EACCES, name="f", places=places)
    assert error.where == "tool.py:12: return x[0]"
    assert "a plain number is used as an address" in error.what
    assert explain(log, errno.EACCES, name="f").where == "return *p;"
    assert places.at(2) == "tool.py:13" and places.at(99) == "tool.py:13"


@pytest.mark.parametrize(("log", "what"), [
    ("invalid stack type R1 off=-600 access_size=8\n", "offset -600 is out of bounds"),
    ("invalid indirect read from stack R2 off -16+4 size 8\n", "bytes of the stack are read that were never written"),
    ("back-edge from insn 9 to 2\n", "a loop, which this kernel does not allow"),
    ("unknown func bpf_loop#181\n", "helper bpf_loop (number 181) is not known here"),
    ("invalid func unknown#181\n", "helper bpf_loop is not known here"),
    ("BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns (limit 1000000)\n",
     "too complex: gave up after 1000001 instructions"),
    ("cannot call GPL-restricted function from non-GPL compatible program\n", "only GPL-compatible programs"),
    ("R0 pointer arithmetic on map_value_or_null prohibited, null-check it first\n", "may be absent"),
    ("cannot pass map_type 27 into func bpf_map_lookup_elem#1\n", "does not work on maps of type 27"),
    ("At program exit the register R0 has smin=5 smax=5 should have been in [0, 1]\n", "must be in [0, 1]"),
    ("R1 type=scalar expected=fp, pkt, pkt_meta\n", "argument 1 of a helper is of kind scalar, where fp"),
    ("reg type unsupported for arg#0 function p#4\n0: R1=ctx(off=0,imm=0) R10=fp0\n"
     "BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns\n", "too complex"),
    ("something entirely new in Linux 9\nprocessed 3 insns\n", "something entirely new in Linux 9"),
])  # fmt: skip
def test_messages_of_other_kernels(log: str, what: str) -> None:
    assert what in explain(log, errno.EACCES, name="p").what


@pytest.mark.parametrize(("line", "reads"), [
    ("unknown func bpf_probe_read_kernel#113\n", True),  # until 6.13
    ("program of this type cannot use helper bpf_probe_read_kernel_str#115\n", True),
    ("unknown func bpf_probe_read_user#112\n", False),
    ("unknown func bpf_loop#181\n", False),
])  # fmt: skip
def test_lockdown_takes_away_helpers(line: str, reads: bool) -> None:
    """Which helpers are those that lockdown forbids, and what is said of them."""
    log = f"3: (85) call something\n{line}processed 4 insns (limit 1000000)\n"
    assert read_by_helper(log) == reads
    error = locked_down(explain(log, errno.EINVAL, name="p", places=Places([(0, "t.py", 3, "def p(x):")])), "p")
    assert "program p: it reads kernel memory, which lockdown=confidentiality forbids" in error.what
    assert error.where.startswith("t.py:3") and error.log == log


@pytest.mark.parametrize(("number", "what"), [
    (errno.EINVAL, "not known to the kernel"), (errno.E2BIG, "too many instructions"), (errno.EIO, "without a word"),
])  # fmt: skip
def test_no_log(number: int, what: str) -> None:
    error = explain("", number, name="p", places=Places([(0, "t.py", 3, "def p(x):")]))
    assert what in error.what and "[" not in error.what
    assert error.where == "t.py:3: def p(x):"


def test_a_lost_field_without_a_record() -> None:
    log = "3: (85) call unknown#195896080\ninvalid func unknown#195896080\n"
    assert "lacks a field or type" in explain(log, 22, name="p").what
