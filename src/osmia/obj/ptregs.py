# SPDX-License-Identifier: Apache-2.0
"""``struct pt_regs``: where a stopped thread's registers are, and which of them carry a call's arguments.

The layouts are uapi and do not change: x86-64 in
``arch/x86/include/uapi/asm/ptrace.h``, arm64 (``struct user_pt_regs``) in
``arch/arm64/include/uapi/asm/ptrace.h``.  Calling conventions: System V
x86-64 psABI and AAPCS64.
"""

from __future__ import annotations

from osmia.errors import NotSupported

_X86_ORDER = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss",
)  # fmt: skip


class Machine:
    """One architecture: ``offsets`` of registers by name, bytes; ``args`` and ``ret`` are registers of a call.

    ``stack_args`` is the distance, at a function's first instruction, from
    the stack pointer to the first argument that found no register.
    """

    __slots__ = ("args", "ip", "name", "offsets", "ret", "sp", "stack_args")

    def __init__(
        self, name: str, offsets: dict[str, int], args: tuple[str, ...], ret: str, ip: str, sp: str, stack_args: int
    ) -> None:
        self.name = name
        self.offsets = offsets
        self.args = args
        self.ret = ret
        self.ip = ip
        self.sp = sp
        self.stack_args = stack_args

    def argument(self, n: int) -> tuple[int, bool]:
        """Where argument ``n`` (from 0) is: ``(offset, False)`` in pt_regs, or ``(offset, True)`` from the stack."""
        if n < len(self.args):
            return self.offsets[self.args[n]], False
        return self.stack_args + 8 * (n - len(self.args)), True


X86_64 = Machine(
    "x86_64", {name: 8 * at for at, name in enumerate(_X86_ORDER)}, ("rdi", "rsi", "rdx", "rcx", "r8", "r9"),
    ret="rax", ip="rip", sp="rsp", stack_args=8,
)  # fmt: skip
ARM64 = Machine(
    "aarch64", {**{f"x{n}": 8 * n for n in range(31)}, "sp": 248, "pc": 256, "pstate": 264},
    tuple(f"x{n}" for n in range(8)), ret="x0", ip="pc", sp="sp", stack_args=0,
)  # fmt: skip
MACHINES = {"x86_64": X86_64, "aarch64": ARM64}
#: ELF's e_machine
BY_ELF = {62: X86_64, 183: ARM64}


def machine(name: str) -> Machine:
    """The machine that ``uname -m`` calls ``name``.  NotSupported for others."""
    found = MACHINES.get(name)
    if found is None:
        raise NotSupported(f"arguments of functions are not known on {name}", fix="it works on x86_64 and aarch64")
    return found


def _x86_names() -> dict[str, tuple[str, int, int]]:
    """Every way to write a general register: name -> (64-bit name, bytes, bits to shift right)."""
    out: dict[str, tuple[str, int, int]] = {}
    for letter in "abcd":
        full = f"r{letter}x"
        for name, size in ((full, 8), (f"e{letter}x", 4), (f"{letter}x", 2), (f"{letter}l", 1)):
            out[name] = full, size, 0
        out[f"{letter}h"] = full, 1, 8
    for stem in ("si", "di", "bp", "sp"):
        for name, size in ((f"r{stem}", 8), (f"e{stem}", 4), (stem, 2), (f"{stem}l", 1)):
            out[name] = f"r{stem}", size, 0
    for n in range(8, 16):
        for suffix, size in (("", 8), ("d", 4), ("w", 2), ("b", 1)):
            out[f"r{n}{suffix}"] = f"r{n}", size, 0
    out["rip"], out["eip"] = ("rip", 8, 0), ("rip", 4, 0)
    return out


X86_NAMES = _x86_names()
