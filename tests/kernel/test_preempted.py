# SPDX-License-Identifier: Apache-2.0
"""An event that is put together in per-CPU memory, where a uprobe's program may be preempted by another thread's.

A preemption at the right instruction cannot be ordered, but what it leaves
can be made: the memory, claimed by somebody.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from pathlib import Path

import pytest
from kernel_code import Running, running

from osmia.compiler.builder import SCRATCH
from osmia.events.loss import Slot, sentence
from osmia.link import user_places

pytestmark = [pytest.mark.kernel, pytest.mark.vm]

TEXT = """
class Told(Event):
    number: u32
    _bytes: Data[64]

told = Ring(Told, 1 << 16)

@uprobe("/x:getpgid")
def called(pid: s32):
    if pid < 0:
        return
    with told.reserve() as e:
        e.number = pid
        e._bytes.read(current.task, 8)
        if pid == 3:
            e.discard()
        if pid == 5:
            return

@tracepoint("syscalls:sys_enter_getpgid")
def entered(call):
    with told.reserve() as e:
        e.number = 1000
        e._bytes.read(current.task, 8)
"""


@pytest.fixture(scope="module")
def library() -> str:
    """The C library that this process calls."""
    return next(found[1] for found in re.finditer(r"(/\S*/libc[.-]\S*)$", Path("/proc/self/maps").read_text(), re.M))


def _call(*numbers: int) -> None:
    for number in numbers:
        ctypes.CDLL(None).getpgid(number)


def _claims(one: Running) -> list[list[int]]:
    """The last words of each piece of scratch memory, by CPU: how many claim it."""
    scratch = one.live.maps[SCRATCH]
    size = (scratch.value_size + 7) // 8 * 8
    cpus = [scratch.lookup(struct.pack("<I", index)) or b"" for index in range(scratch.max_entries)]
    return [[int.from_bytes(raw[end - 8 : end], "little") for end in range(size, len(raw) + 1, size)] for raw in cpus]


def _claim(one: Running, n: int) -> None:
    scratch = one.live.maps[SCRATCH]
    size = (scratch.value_size + 7) // 8 * 8
    for index in range(scratch.max_entries):
        raw = (bytes(size - 8) + n.to_bytes(8, "little")) * len(_claims(one)[0])
        scratch.update(struct.pack("<I", index), raw)


def test_claimed_memory_is_left_alone_and_what_was_lost_counted(library: str) -> None:
    with running(TEXT) as one:
        target = f"{library}:getpgid"
        found = user_places.find("uprobe", [target], pid=os.getpid())
        one.attach("called", target=target, pid=os.getpid(), found=found)
        _call(7, 3, 5, 8)  # sent at the end, discarded, sent by a return
        assert [event.number for event in one.events("told", 1.0)] == [7, 5, 8]
        assert not any(n for each in _claims(one) for n in each), "the claims were not given back"
        _claim(one, 1)
        _call(7, 3, 8)
        assert not one.events("told") and one.lost() == {("taken", "told"): 3}
        assert all(n == 1 for each in _claims(one) for n in each), "somebody else's claim was given back"
        _claim(one, 0)
        _call(9)
        assert [event.number for event in one.events("told", 1.0)] == [9]
        assert one.lost() == {("taken", "told"): 3}
        said = sentence(Slot(0, "taken", "told"), 3, {})
        assert said == "told: 3 events lost: another thread had preempted one that was being put together"


def test_a_program_that_cannot_be_preempted_claims_nothing() -> None:
    with running(TEXT) as one:
        one.attach("entered")
        _claim(one, 1)
        os.getpgid(0)
        assert 1000 in [event.number for event in one.events("told", 1.0)] and one.lost() == {}
