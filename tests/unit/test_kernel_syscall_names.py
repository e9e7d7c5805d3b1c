# SPDX-License-Identifier: Apache-2.0
"""Names of system calls: this machine's headers and kernel have the same."""

from __future__ import annotations

import re
import subprocess

import pytest

from osmia.kernel import syscall_names

ALL_ALIKE = 424  # from here on, architectures have the same numbers


def test_numbers_are_those_of_the_headers() -> None:
    """The compiler that the tests need anyway comes with the headers."""
    source = "#include <sys/syscall.h>\n#include <asm/unistd.h>\n"
    macros = subprocess.run(["gcc", "-E", "-dM", "-"], input=source, capture_output=True, text=True, check=True).stdout
    found = {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.M)}
    assert len(found) > 250
    known = {name: number for number, name in syscall_names.table().items()}
    assert {name: known.get(name) for name in found} == found


def test_architectures_are_alike_where_they_should_be() -> None:
    one, other = syscall_names.table("x86_64"), syscall_names.table("aarch64")
    assert syscall_names.table("riscv64") == other and syscall_names.table("vax") == {}
    assert {n: one[n] for n in one if n >= ALL_ALIKE} == {n: other[n] for n in other if n >= ALL_ALIKE}
    assert (one[0], one[59], one[257], one[462]) == ("read", "execve", "openat", "mseal")
    assert (other[63], other[221], other[56], other[462]) == ("read", "execve", "openat", "mseal")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_names_are_unique(machine: str) -> None:
    table = syscall_names.table(machine)
    assert len(set(table.values())) == len(table)


def test_names_and_numbers() -> None:
    assert syscall_names.name(syscall_names.number("openat")) == "openat"
    assert syscall_names.name(4000) == "syscall_4000"
    with pytest.raises(ValueError, match="there is no system call 'nope'"):
        syscall_names.number("nope")
