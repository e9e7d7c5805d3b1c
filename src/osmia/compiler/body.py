# SPDX-License-Identifier: Apache-2.0
"""The text of one function being written: instructions, temporaries, labels, places of locals."""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.core_globals import CoreGlobals
from osmia.compiler.debuginfo import DebugInfo
from osmia.compiler.loops import Planner
from osmia.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Shared:
    """What all the functions of a module share while they are lowered."""

    def __init__(
        self,
        info: DebugInfo,
        core: CoreGlobals,
        planner: Planner,
        lower_expr: Callable[[Body, tir.Expr], str],
        lower_stmts: Callable[[Body, list[tir.Stmt]], None],
    ) -> None:
        self.lower_expr = lower_expr
        self.lower_stmts = lower_stmts
        self.info = info
        self.core = core
        self.planner = planner
        self.declarations: dict[str, None] = {}
        self.callbacks: list[str] = []  # text of the functions made from loop bodies
        self.loop_count = 0
        self.barrier_count = 0
        # Functions that must stay functions, and locals that must stay in memory, because their address is taken.
        self.addressed: set[tir.Func] = set()
        self.in_memory: set[tir.Local] = set()


def memory_type(t: tir.Mem | tir.Void) -> str:
    """The LLVM type of ``t`` in memory."""
    if isinstance(t, tir.Int):
        return f"i{t.bits}"
    if isinstance(t, tir.Bool):
        return "i8"
    if isinstance(t, tir.Ptr):
        return "ptr"
    if isinstance(t, tir.Void):
        return "void"
    return f"[{t.size} x i8]"


def value_type(t: tir.Type | tir.Mem) -> str:
    """The LLVM type of a value of type ``t``: integers are always 64 bits wide."""
    if isinstance(t, tir.Int):
        return "i64"
    if isinstance(t, tir.Bool):
        return "i1"
    if isinstance(t, tir.Ptr):
        return "ptr"
    if isinstance(t, tir.Void):
        return "void"
    raise InternalError(f"no value has type {t}")


class Body:
    """One LLVM function under construction.

    ``loops`` holds, innermost last, the labels that ``break`` and ``continue``
    jump to.
    """

    def __init__(self, shared: Shared, func: tir.Func, scope: str, loc: tir.Loc) -> None:
        self.shared = shared
        self.func = func
        self.scope = scope
        self.entry: list[str] = []
        self.lines: list[str] = []
        self.label = "entry"
        self.slots: dict[tir.Local, str] = {}
        self.known: dict[tir.Local, str] = {}  # what is in a local, as far as this block has read or written it
        self.read: set[tir.Local] = set()  # locals whose places in memory are read somewhere
        self._writes: dict[int, tir.Local] = {}  # numbers of lines that store into a local's place
        self.frame = ""  # the frame's address, when the function has one
        self.loops: list[tuple[str, str]] = []
        self.in_callback = False
        self.open = True  # the current block has no terminator yet
        self._temps = 0
        self._labels = 0
        self._places: dict[tir.Loc, str] = {}
        self.at(loc)
        # Expressions hold statements and the reverse: the driver ties the knot.
        self.value: Callable[[tir.Expr], str] = lambda e: shared.lower_expr(self, e)
        self.run: Callable[[list[tir.Stmt]], None] = lambda stmts: shared.lower_stmts(self, stmts)

    # -- places in the source

    def at(self, loc: tir.Loc) -> None:
        """What follows belongs to ``loc``."""
        self.loc = loc

    def _place(self) -> str:
        """The debug location of what is written now."""
        ref = self._places.get(self.loc)
        if ref is None:
            ref = self._places[self.loc] = self.shared.info.location(self.scope, self.loc)
        return ref

    # -- instructions

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}, !dbg {self._place()}")

    def let(self, text: str) -> str:
        """An instruction with a result, whose name is returned."""
        self._temps += 1
        self.lines.append(f"  %{self._temps} = {text}, !dbg {self._place()}")
        return f"%{self._temps}"

    def at_entry(self, text: str) -> str:
        """An instruction with a result at the top of the function."""
        name = f"%e{len(self.entry)}"
        self.entry.append(f"  {name} = {text}")
        return name

    def slot(self, llvm_type: str, align: int = 8) -> str:
        """A variable of the back end's own, on the stack until LLVM promotes it."""
        return self.at_entry(f"alloca {llvm_type}, align {align}")

    def wrote(self, local: tir.Local) -> None:
        """The last line is a store into ``local``, which is not needed if nobody reads it there."""
        if local not in self.shared.in_memory:
            self._writes[len(self.lines) - 1] = local

    def text(self) -> list[str]:
        """The lines of the finished function: without the places of locals that were only ever used as values."""
        unread = set(self._writes.values()) - self.read
        places = tuple(f"  {self.slots[local]} = " for local in unread)
        entry = [line for line in self.entry if not line.startswith(places)]
        writes = self._writes
        return ["entry:", *entry, *[line for i, line in enumerate(self.lines) if writes.get(i) not in unread], "}"]

    def new_label(self, hint: str) -> str:
        self._labels += 1
        return f"{hint}{self._labels}"

    def start(self, label: str, known: dict[tir.Local, str] | None = None) -> None:
        """Begin block ``label``; the one before falls through into it.

        ``known``: what is in locals on every way to here, as values of blocks
        that all of these ways have passed.
        """
        if self.open:
            self.jump(label)
        self.lines.append(f"{label}:")
        self.label = label
        self.open = True
        self.known = dict(known) if known else {}

    @staticmethod
    def unchanged(before: dict[tir.Local, str], known: dict[tir.Local, str]) -> dict[tir.Local, str]:
        """What of ``before``, known where ways parted, is still so at the end of one of them."""
        return {local: value for local, value in before.items() if known.get(local) == value}

    def jump(self, label: str) -> None:
        if self.open:
            self.do(f"br label %{label}")
            self.open = False

    def branch(self, test: str, then: str, other: str) -> None:
        self.do(f"br i1 {test}, label %{then}, label %{other}")
        self.open = False

    def ret(self, text: str) -> None:
        self.do(f"ret {text}")
        self.open = False

    def reopen(self) -> None:
        """Code after a jump is dead, but has to stand in some block."""
        if not self.open:
            self.start(self.new_label("dead"))

    # -- shared odds and ends

    def declare(self, text: str) -> None:
        self.shared.declarations[f"declare {text}"] = None

    def opaque(self, operand: str, llvm_type: str) -> str:
        """``operand`` behind a fresh barrier that LLVM can neither look through nor merge with another."""
        self.shared.barrier_count += 1
        short = "p0" if llvm_type == "ptr" else llvm_type
        name = f"@llvm.bpf.passthrough.{short}.{short}"
        self.declare(f"{llvm_type} {name}(i32, {llvm_type}) #1")
        return self.let(f"call {llvm_type} {name}(i32 {self.shared.barrier_count}, {llvm_type} {operand})")

    def core(self, name: str, volatile: bool = False) -> str:
        """The value of a relocation global; ``volatile``: LLVM must not take one reading of it for another."""
        word = "load volatile" if volatile else "load"
        return self.let(f"{word} i64, ptr {name}, align 8")

    def gep(self, base: str, offset: int | str) -> str:
        """``base`` plus ``offset`` bytes."""
        if offset == 0:
            return base
        return self.let(f"getelementptr i8, ptr {base}, i64 {offset}")
