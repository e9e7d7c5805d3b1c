# SPDX-License-Identifier: Apache-2.0
"""Stacks by number, each stored once, at its real length, and never mistaken for another.

The kernel's own map for stacks (BPF_MAP_TYPE_STACK_TRACE) has one place for
all stacks with the same hash: the later ones are lost, and of all things the
frequent ones may be among them.  Here a stack is read into memory of the
CPU's, looked up by a 64-bit hash, and *compared* with the stack that is kept
there; if it is another one after all, it goes to the next place.

Stacks are kept in chunks.  A chunk belongs to one program on one CPU, which
fills it from the front, so nothing has to be locked; a new chunk is had by
putting its number into a map where it must not be yet.  That works on every
kernel with ``bpf_get_stack`` (4.18): atomic operations that return something
came with 5.12 only.
"""

from __future__ import annotations

from osmia.lang.builtins import machine
from osmia.lang.codec import encode
from osmia.lang.maps import ARRAY, MapBase
from osmia.lang.types import u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Frames of one stack, at most: what ``kernel.perf_event_max_stack`` may be raised to here.
MOST_FRAMES = 1024
#: What ``kernel.perf_event_max_stack`` is unless somebody changed it.
USUAL_FRAMES = 127
#: Words of a chunk, and the last word at which a stack may begin: its header and the longest stack follow.
CHUNK_WORDS = 8192
LAST_START = CHUNK_WORDS - 1 - MOST_FRAMES
#: A stack's header: the number of its frames, then these bits.
DEPTH_MASK, CUT, USER = 0xFFFF, 1 << 16, 1 << 17
#: Names of what belongs to a map of stacks, after the map's own.
IDS, TAKEN, FREE = "_ids", "_taken", "_free"
#: The constant that says how many bytes are asked for: 8 for each frame that the kernel may give.
BYTES = "osmia_stack_bytes"
#: Frames of a stack, on the average, that memory is set aside for.
_AVERAGE = 32


class Trace(tuple):  # type: ignore[type-arg]
    """One stack: its addresses, innermost first.

    ``user`` says whose it is.  ``cut``: there may be callers beyond the last
    frame, because the kernel gave as many frames as it ever does.
    """

    cut: bool
    user: bool

    def __new__(cls, addresses: Any = (), *, cut: bool = False, user: bool = False) -> Trace:
        made = super().__new__(cls, addresses)
        made.cut = cut
        made.user = user
        return made

    def __repr__(self) -> str:
        kind = "user" if self.user else "kernel"
        return f"<{kind} stack of {self.depth}{' or more' if self.cut else ''}: {' '.join(map(hex, self))}>"

    @property
    def depth(self) -> int:
        """The number of frames."""
        return len(self)

    @property
    def outermost_first(self) -> Iterator[int]:
        """The addresses, root first, as flame graphs have them."""
        return reversed(self)

    def symbolize(self, names: Any, pid: int = 0, time: int = 0) -> list[Any]:
        """Its frames (:class:`osmia.symbols.frame.Frame`), innermost first.

        ``names`` is a :class:`osmia.symbols.symbolizer.Symbolizer`; of a user
        stack it must be known whose it is (``pid``), and, where that may have
        ended since, ``time`` says when it was taken (ns of ``ktime()``).
        """
        if not self.user:
            return list(names.kernel.stack(self))
        return list(names.user_stack(pid, self, time))


class Stacks(MapBase):
    """``Stacks(max_entries=16384)``: stacks by number, without losses to hash collisions (``bpf_get_stack``, 4.18).

    In kernel functions ``s.kernel()`` and ``s.user()`` give the number of the
    stack that led here, without its innermost ``skip`` frames
    (``s.kernel(skip=2)``); 0 where there is none.  The number is a u32 and
    stands for that stack until the end, on every CPU.  On the user side
    ``s[number]`` is the stack: a tuple of its addresses, innermost first,
    which knows whether it was ``cut`` and whether it is a ``user`` stack.
    Before 376bd59e2a04 (6.12) there is no kernel stack at the tracepoints of
    system calls, but at the raw tracepoints ``sys_enter`` and ``sys_exit``.

    ``max_entries`` is how many different stacks can be kept; ``words`` how
    many addresses of all of them together (default: 32 each).  A stack that
    finds no room, or that could not be read, is counted as lost, and its
    number is 0.  The depth is what ``kernel.perf_event_max_stack`` allows,
    up to 1,024 frames.  Both sizes may be changed until the tool is loaded.

    Example::

        stacks = Stacks()
        counts = Hash[tuple[u32, u32, u32], u64]()

        @perf_event("cpu-clock", frequency=99)
        def sample(ctx):
            counts[current.tgid, stacks.user(), stacks.kernel()] += 1
    """

    map_type = ARRAY

    def __init__(self, max_entries: int = 16384, words: int = 0) -> None:
        super().__init__()
        for name, value in (("max_entries", max_entries), ("words", words)):
            if not isinstance(value, int) or value < 0 or (name == "max_entries" and not value):
                raise TypeError(f"{name} is a number from 1, not {value!r}")
        self.max_entries = max_entries
        self.words = words
        self._sim: dict[tuple[bool, tuple[int, ...]], int] = {}
        self._chunks: dict[int, Any] = {}
        self._from: Any = None

    @property
    def chunks(self) -> int:
        """How many chunks are needed, besides those that are filled in part only (see :mod:`osmia.load.stacks`)."""
        return max(1, -(-(self.words or self.max_entries * _AVERAGE) // LAST_START))

    def sizes(self, name: str) -> dict[str, int]:
        """Entries of the maps in the object, by name."""
        return {name: self.chunks, name + TAKEN: self.chunks, name + IDS: self.max_entries}

    def kernel(self, skip: int = 0) -> u32:
        """The number of the kernel stack, without its innermost ``skip`` frames (a constant); 0: there is none."""
        return u32(self._number(False, machine.kernel_stack, skip))  # type: ignore[no-any-return]

    def user(self, skip: int = 0) -> u32:
        """The number of the user stack."""
        return u32(self._number(True, machine.user_stack, skip))  # type: ignore[no-any-return]

    def _number(self, user: bool, stack: list[int], skip: int) -> int:
        kept = tuple(stack[skip:])
        if not kept:
            return 0
        if (user, kept) not in self._sim and len(self._sim) >= self.max_entries:
            machine.lost[self.name or "stacks"] = machine.lost.get(self.name or "stacks", 0) + 1
            return 0
        return self._sim.setdefault((user, kept), len(self._sim) + 1)

    def __getitem__(self, number: int) -> Trace:
        """The stack with this number; KeyError where there is none (0, above all)."""
        if self.live is None:
            for (user, kept), known in self._sim.items():
                if known == number:
                    return Trace(kept[:USUAL_FRAMES], cut=len(kept) >= USUAL_FRAMES, user=user)
            raise KeyError(number)
        if number <= 0:
            raise KeyError(number)
        chunk, at = divmod(number - 1, CHUNK_WORDS)
        words = self._chunk(chunk, False)
        if words is not None and not words[at]:
            words = self._chunk(chunk, True)
        if words is None or not words[at]:
            raise KeyError(number)
        header = words[at]
        depth = header & DEPTH_MASK
        kept = words[at + 1 : at + 1 + depth].tolist()
        return Trace(kept, cut=bool(header & CUT), user=bool(header & USER))

    def get(self, number: int) -> Trace | None:
        """The stack with this number, or None."""
        try:
            return self[number]
        except KeyError:
            return None

    def _chunk(self, number: int, anew: bool) -> Any:
        """A chunk's words, as they were when it was read last: what is in it never changes, but more may come."""
        if self._from is not self.live:
            self._chunks, self._from = {}, self.live
        found = None if anew else self._chunks.get(number)
        if found is None and self.live is not None:
            raw = self.live.lookup(encode(u32, number))
            found = self._chunks[number] = None if raw is None else memoryview(raw).cast("Q")
        return found
