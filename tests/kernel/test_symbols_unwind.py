# SPDX-License-Identifier: Apache-2.0
"""Stacks without frame pointers, held against what really happened: a program is stepped, one instruction at a time.

The test keeps a list of calls of its own from what each step did to the
stack pointer.  Unwinding must give that very list at every instruction:
before a prologue, in the middle of one, in the linker's stubs, in libc.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator

import prebuilt
import pytest
from needs import only_on
from patience import PATIENCE, patient

from osmia.kernel import door
from osmia.symbols.eh_frame import RBP, RBX, RETURN, RSP
from osmia.symbols.maps import Maps
from osmia.symbols.symbolizer import Symbolizer
from osmia.symbols.unwind import Unwound, of_sample

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.usefixtures("no_fd_leak"),
    only_on("x86_64", "stacks are unwound on x86-64"),
]

#: On emulated processors only so many instructions are looked at, and those that call and return.
EACH = 1 if PATIENCE == 1 else 29
_STEP, _GETREGS, _ATTACH, _DETACH = 9, 12, 16, 17
#: ``struct user_regs_struct`` by DWARF number.
_PLACES = {15: 0, 14: 1, 13: 2, 12: 3, RBP: 4, RBX: 5, 11: 6, 10: 7, 9: 8, 8: 9, 0: 10, 2: 11, 1: 12, 4: 13, 5: 14,
           RETURN: 16, RSP: 19}  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
_libc.ptrace.restype = ctypes.c_long


class Stepped:
    """The program ``chain``, one instruction after the other."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([prebuilt.chain(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.read(1) == b"r"
        self._trace(_ATTACH, 0)
        os.waitpid(self.pid, 0)
        assert self.process.stdin is not None
        self.process.stdin.write(b"!")
        self.process.stdin.flush()
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        with open(f"/proc/{self.pid}/maps") as file:
            [line] = [line for line in file if line.rstrip().endswith("[stack]")]
        self.top = int(line.split()[0].split("-")[1], 16)

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Stepped:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.memory)
        self.process.kill()
        self.process.communicate()

    def _trace(self, request: int, data: int | ctypes.Array[ctypes.c_char]) -> None:
        argument = ctypes.addressof(data) if isinstance(data, ctypes.Array) else data
        assert _libc.ptrace(request, self.pid, None, argument) == 0, os.strerror(ctypes.get_errno())

    def registers(self) -> dict[int, int]:
        raw = ctypes.create_string_buffer(27 * 8)
        self._trace(_GETREGS, raw)
        words = struct.unpack("<27Q", raw.raw)
        return {number: words[place] for number, place in _PLACES.items()}

    def stack(self, registers: dict[int, int]) -> tuple[bytes, int]:
        """All of it that is in use (and the 128 bytes below), and where that begins."""
        start = registers[RSP] - 128
        return os.pread(self.memory, self.top - start, start), start

    def step(self, deliver: int = 0) -> int:
        """One instruction; the signal that came instead of the step's own, or 0."""
        self._trace(_STEP, deliver)
        _, status = os.waitpid(self.pid, 0)
        assert os.WIFSTOPPED(status)
        came = os.WSTOPSIG(status)
        return 0 if came == signal.SIGTRAP else came


@pytest.fixture
def names() -> Iterator[Symbolizer]:
    with Symbolizer() as made:
        yield made


def unwound(names: Symbolizer, program: Stepped) -> tuple[dict[int, int], Unwound]:
    registers = program.registers()
    return registers, names.unwind(program.pid, registers, *program.stack(registers))


def test_at_every_instruction_the_callers_are_those_that_called(names: Symbolizer) -> None:
    with Stepped() as program:
        registers, first = unwound(names, program)
        assert first.complete, first.why
        calls = first.addresses[:0:-1]  # return addresses, the outermost first
        frames = names.user_stack(program.pid, first.addresses)
        assert [frame.name for frame in frames][-1] == "_start" and "main" in {frame.name for frame in frames}
        seen: set[tuple[str, ...]] = set()
        modules: set[str] = set()
        before, deepest = registers, 0
        for n in range(60_000):
            assert not program.step()
            registers = program.registers()
            grown = registers[RSP] - before[RSP]
            pushed = int.from_bytes(os.pread(program.memory, 8, registers[RSP]), "little")
            known = len(calls)
            if grown == -8 and before[RETURN] < pushed <= before[RETURN] + 8 and registers[RETURN] != pushed:
                calls.append(pushed)
            elif calls and grown >= 8 and registers[RETURN] == calls[-1]:
                calls.pop()
            before = registers
            if n % EACH and len(calls) == known:
                continue
            now = names.unwind(program.pid, registers, *program.stack(registers))
            assert now.complete and now.addresses == [registers[RETURN], *calls[::-1]], (
                [str(frame) for frame in names.user_stack(program.pid, now.addresses)],
                [str(names.user(program.pid, address)) for address in calls[::-1]],
                now.why,
            )
            frames = names.user_stack(program.pid, now.addresses)
            modules.update(frame.module_name for frame in frames)
            own = tuple(frame.name for frame in frames if frame.module_name == "chain")
            seen.add(own)
            deepest = max(deepest, len(frames))
            if "finished" in own:
                break
        else:
            pytest.fail("it does not come to its end")
        ends = ("main", "_start")
        assert ("innermost", "changing", "outer", *ends) in seen
        assert ("innermost", "compare", "sorting", "outer", *ends) in seen
        assert any(name.startswith("ld-") for name in modules)  # the dynamic linker looked for strnlen
        assert deepest >= 8


def test_out_of_a_signal_handler(names: Symbolizer) -> None:
    """The frame that was interrupted did not call: its own address counts, not the one before it."""
    with Stepped("signal") as program:
        chains = set()
        deliver = 0
        for _ in range(60_000):
            deliver = program.step(deliver)
            _, now = unwound(names, program)
            assert now.complete, now.why
            frames = names.user_stack(program.pid, now.addresses, exact=now.exact)
            own = tuple(frame.name for frame in frames if frame.module_name == "chain")
            if "handler" in own and len(own) > 4:
                assert len(now.exact) == 2
                interrupted = max(now.exact)
                assert frames[interrupted].module_name.startswith("libc")  # raise() was at work
            chains.add(own)
            if "finished" in own:
                break
        else:
            pytest.fail("it does not come to its end")
        assert ("innermost", "handler", "signalled", "main", "_start") in chains


def test_what_is_missing_is_said(names: Symbolizer) -> None:
    with Stepped() as program:
        registers = program.registers()
        stack, start = program.stack(registers)
        whole = names.unwind(program.pid, registers, stack, start)
        assert whole.complete and not whole.why
        part = names.unwind(program.pid, registers, stack[:256], start)
        assert not part.complete and part.why == "it goes on beyond the copied part of the stack"
        assert part.addresses == whole.addresses[: len(part.addresses)]
        lost = names.unwind(program.pid, {**registers, RETURN: 0x1000}, stack, start)
        assert not lost.complete and lost.unmapped and lost.addresses == [0x1000]
        early = Maps.capture(program.pid)
        everything = list(early)
        early._mappings = [one for one in everything if one.path != prebuilt.chain()]
        early._starts = [one.start for one in early._mappings]
        names.processes.hand_in(early)
        again = names.unwind(program.pid, registers, stack, start)
        assert again.addresses == whole.addresses and again.complete  # it looked again what is mapped


# --- samples ------------------------------------------------------------------------------------------------------

_MASK = 0x1FF | 0xFF << 16  # ax to ip, r8 to r15
_PAGES = 64


class Sampler:
    """perf samples of a process with its registers and 8 KiB of its stack, and what the kernel thinks its stack is."""

    def __init__(self, pid: int) -> None:
        event = bytearray(112)
        kinds = 1 << 0 | 1 << 5 | 1 << 12 | 1 << 13  # IP, CALLCHAIN, REGS_USER, STACK_USER
        struct.pack_into("<IIQQQQQ", event, 0, 1, len(event), 0, 499, kinds, 0, 1 << 5 | 1 << 10)  # user only, by rate
        struct.pack_into("<QI", event, 80, _MASK, 8192)
        self.fd = door.syscall(door.NR_PERF_EVENT_OPEN, door.address(event), pid, -1, -1, 8)
        assert self.fd >= 0, os.strerror(-self.fd)
        self.ring = mmap.mmap(self.fd, (_PAGES + 1) * mmap.PAGESIZE)
        self.tail = 0

    def close(self) -> None:
        self.ring.close()
        os.close(self.fd)

    def _bytes(self, size: int) -> bytes:
        first, room = mmap.PAGESIZE, _PAGES * mmap.PAGESIZE
        at = self.tail % room
        part = self.ring[first + at : first + min(at + size, room)]
        return part + self.ring[first : first + size - len(part)]

    def read(self) -> Iterator[tuple[dict[int, int], bytes, int]]:
        """Registers, the stack's bytes, and how many user frames the kernel found by frame pointers."""
        (head,) = struct.unpack_from("<Q", self.ring, 1024)
        while self.tail < head:
            kind, _, size = struct.unpack("<IHH", self._bytes(8))
            raw = self._bytes(size)
            self.tail += size
            if kind != 9:
                continue
            (count,) = struct.unpack_from("<Q", raw, 16)
            chain = [one for one in struct.unpack_from(f"<{count}Q", raw, 24) if one < 1 << 63]
            at = 24 + 8 * count
            (abi,) = struct.unpack_from("<Q", raw, at)
            if abi:
                number = _MASK.bit_count()
                registers = of_sample(_MASK, struct.unpack_from(f"<{number}Q", raw, at + 8))
                at += 8 + 8 * number
                (room,) = struct.unpack_from("<Q", raw, at)
                (used,) = struct.unpack_from("<Q", raw, at + 8 + room)
                yield registers, raw[at + 8 : at + 8 + min(room, used)], len(chain)
        struct.pack_into("<Q", self.ring, 1032, head)


def test_samples_give_whole_stacks_where_the_kernel_s_are_cut(names: Symbolizer) -> None:
    process = subprocess.Popen([prebuilt.chain(), "for", "ever"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None and process.stdout.read(1) == b"r"
    sampler = Sampler(process.pid)
    try:
        process.stdin.write(b"!")
        process.stdin.flush()
        chains: set[tuple[str, ...]] = set()
        seen, shorter = 0, 0
        until = time.monotonic() + patient(60)
        while (seen < 60 or not {"sorting", "changing"} <= {one for own in chains for one in own}) and (
            time.monotonic() < until
        ):
            time.sleep(0.05)
            for registers, stack, by_frame_pointer in sampler.read():
                found = names.unwind(process.pid, registers, stack, registers[RSP])
                assert found.complete and not found.assumed, found.why
                frames = names.user_stack(process.pid, found.addresses, exact=found.exact)
                assert frames[-1].name == "_start"
                # The linker's stubs have no names.
                chains.add(tuple(frame.name for frame in frames if frame.module_name == "chain" and frame.name))
                seen += 1
                shorter += by_frame_pointer < len(frames)
        assert seen >= 60 and shorter > seen // 2
        legal = ("_start", "main", "outer")
        for own in chains:
            outside_in = own[::-1]
            assert outside_in[:3] == legal[: len(outside_in)]
            assert outside_in[3:] in {(), ("changing",), ("changing", "innermost"), ("sorting",),
                                      ("sorting", "compare"), ("sorting", "compare", "innermost")}  # fmt: skip
    finally:
        sampler.close()
        process.kill()
        process.communicate()


def test_registers_of_a_sample() -> None:
    mask = 1 << 8 | 1 << 7 | 1 << 6 | 1 << 23 | 1 << 9  # ip, sp, bp, r15, flags
    assert of_sample(mask, (0xB, 0x5, 0x1, 0xF1, 0xF)) == {RBP: 0xB, RSP: 0x5, RETURN: 0x1, 15: 0xF}
