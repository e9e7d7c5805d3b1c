# SPDX-License-Identifier: Apache-2.0
"""Maps that hold more than values: maps of maps, programs to jump to, stacks, counters; and variables."""

from __future__ import annotations

from osmia.lang.builtins import machine
from osmia.lang.codec import decoder, encode
from osmia.lang.maps import DEFAULT_ENTRIES, Hash, Map, MapBase, _MapType, _name, _plain
from osmia.lang.probes import Prog, TailCall
from osmia.lang.types import size_align, u32, zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# BPF_MAP_TYPE_* (include/uapi/linux/bpf.h)
PROG_ARRAY, PERF_EVENT_ARRAY, STACK_TRACE, ARRAY_OF_MAPS, HASH_OF_MAPS = 3, 4, 7, 12, 13
MAX_STACK_DEPTH = 127  # PERF_MAX_STACK_DEPTH; kernel.perf_event_max_stack may allow fewer or more


class ArrayOfMaps(MapBase):
    """``ArrayOfMaps(Hash[u32, u64](64), n)``: ``n`` slots for maps of one shape: BPF_MAP_TYPE_ARRAY_OF_MAPS (4.12).

    The user side fills it: ``inner = outer.new(k)`` makes a map in slot
    ``k``, ``outer[k]`` is the map there (KeyError: none), ``del outer[k]``
    takes it out, and ``old = outer.swap(k)`` puts a fresh map in its place
    and returns the old one, to which, once ``swap`` returns, nothing is
    added any more (the kernel waits for programs that still use it, since
    4.20): exact intervals without subtraction.  In kernel functions
    ``inner = outer.get(k)`` is a map or None.

    Example::

        reads = ArrayOfMaps(PerCpuHash[u32, u64](4096))  # the user side: reads.swap(0) each second
        reads.new(0)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            now = reads.get(0)
            if now is not None:
                now[current.tgid] += 1
    """

    map_type = ARRAY_OF_MAPS
    key: Any = u32
    _live: Any = None

    def __init__(self, inner: Map, max_entries: int = 1) -> None:
        super().__init__()
        if not isinstance(inner, Map):
            raise TypeError(f"{type(self).__name__} takes the map that each slot holds: Hash[u32, u64](64)")
        if not isinstance(max_entries, int) or max_entries < 1:
            raise TypeError(f"max_entries is a number from 1, not {max_entries!r}")
        self.inner = inner
        self.max_entries = max_entries
        self._sim: dict[Any, Map] = {}

    @property
    def live(self) -> Any:
        """The live map; without it, the maps that were put into slots in advance are not live any more either."""
        return self._live

    @live.setter
    def live(self, live: Any) -> None:
        self._live = live
        if live is None:
            for inner in self.__dict__.get("_sim", {}).values():
                inner.close()

    def fill(self) -> None:
        for key, inner in self._sim.items():
            inner.live = self._live.put_new_map(encode(self.key, key))
            inner.fill()

    def _made(self, live: Any = None) -> Map:
        import copy

        made = copy.copy(self.inner)
        made._sim, made.live = {}, live
        made.name = f"{self.name}.inner"
        return made

    def new(self, key: Any) -> Map:
        """Make a map in slot ``key``, in place of what was there."""
        if self.live is None:
            self._sim[key] = self._made()
            return self._sim[key]
        return self._made(self.live.put_new_map(encode(self.key, key)))

    def swap(self, key: Any) -> Map:
        """Put a fresh map in slot ``key`` and return the one that was there; KeyError where there was none."""
        old = self[key]
        self.new(key).close()  # this handle of it; the slot keeps the map
        return old

    def __getitem__(self, key: Any) -> Map:
        if self.live is None:
            return self._sim[key]
        found = self.live.inner_map(encode(self.key, key))
        if found is None:
            raise KeyError(key)
        return self._made(found)

    def get(self, key: Any) -> Map | None:
        """The map in slot ``key``, or None."""
        try:
            return self[key]
        except KeyError:
            return None

    def __contains__(self, key: object) -> bool:
        if self.live is None:
            return key in self._sim
        return self.live.lookup(encode(self.key, key)) is not None

    def __delitem__(self, key: Any) -> None:
        if self.live is None:
            del self._sim[key]
        elif not self.live.delete(encode(self.key, key)):
            raise KeyError(key)


class HashOfMaps(ArrayOfMaps, metaclass=_MapType):
    """``HashOfMaps[K](Hash[u32, u64](64), max_entries)``: maps by key: BPF_MAP_TYPE_HASH_OF_MAPS (4.12).

    Example::

        watched = HashOfMaps[u32](Hash[u64, u64](1024))
        watched.new(1)  # whenever the user side likes; this is the first process

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            sizes = watched.get(current.tgid)
            if sizes is not None:
                sizes[call.count] += 1
    """

    map_type = HASH_OF_MAPS
    key = None

    def __init__(self, inner: Map, max_entries: int = 64) -> None:
        super().__init__(inner, max_entries)
        if self.key is None:
            raise TypeError("HashOfMaps needs the type of its key: HashOfMaps[u32](Hash[u32, u64](64))")

    @classmethod
    def typed(cls, types: Any) -> type[HashOfMaps]:
        """The subclass for a type of key."""
        key = _plain(types)
        size_align(key)
        return type(f"{cls.__name__}[{_name(key)}]", (cls,), {"key": key})


# --------------------------------------------------------------------------
# Programs, stacks, counters


class ProgArray(MapBase):
    """``ProgArray([f, g])``: programs that ``tail_call(array, i)`` jumps to: BPF_MAP_TYPE_PROG_ARRAY (4.2).

    They are made with :func:`osmia.tail_program`.  A jump does not come
    back; where the slot is empty, or after 33 jumps, it does, and that is
    counted as lost.  ``array[i] = program`` and ``del array[i]`` change a
    slot at any time, also while programs run.

    Example::

        sizes = log2_hist("bytes")

        @tail_program(tracepoint("syscalls:sys_enter_read"))
        def large(call):
            sizes.add(call.count)

        steps = ProgArray([large])

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            if call.count > 4096:
                tail_call(steps, 0)
    """

    map_type = PROG_ARRAY

    def __init__(self, progs: Any = (), max_entries: int = 0) -> None:
        super().__init__()
        self.progs: dict[int, Prog] = dict(progs.items() if hasattr(progs, "items") else enumerate(progs))
        for prog in self.progs.values():
            _jumped_to(prog)
        self.max_entries = max_entries or max(self.progs, default=0) + 1
        #: The loaded programs by name of their function, while there are any.
        self.loaded: dict[str, Any] = {}

    def __getitem__(self, index: int) -> Prog:
        return self.progs[index]

    def __setitem__(self, index: int, prog: Prog) -> None:
        if not 0 <= index < self.max_entries:
            raise IndexError(f"slot {index} of {self.max_entries}: say so with max_entries=")
        self.progs[index] = _jumped_to(prog)
        if self.live is not None and not self._put(index, prog):
            from osmia.errors import NotFound

            raise NotFound(f"{prog.name} is not loaded, so nothing can jump to it", where=self.name)

    def __delitem__(self, index: int) -> None:
        del self.progs[index]
        if self.live is not None:
            self.live.delete(encode(u32, index))

    def __contains__(self, index: object) -> bool:
        return index in self.progs

    def _put(self, index: int, prog: Prog) -> bool:
        one = self.loaded.get(prog.name)
        if one is not None:
            assert self.live is not None
            self.live.update(encode(u32, index), encode(u32, one.fd))
        return one is not None

    def fill(self) -> None:
        for index, prog in self.progs.items():
            self._put(index, prog)  # an optional program that this kernel refused leaves its slot empty

    def jump(self, index: int) -> None:
        """What ``tail_call`` does in functions that run as Python."""
        prog = self.progs.get(index)
        if prog is not None:
            raise TailCall(prog)
        machine.lost[self.name or "tail call"] = machine.lost.get(self.name or "tail call", 0) + 1


def _jumped_to(prog: Any) -> Prog:
    if not isinstance(prog, Prog) or not prog.tail:
        raise TypeError(f"{prog!r} is no program to jump to: make it with @tail_program(...)")
    return prog


class StackTraces(MapBase):
    """``StackTraces(max_entries=16384, depth=127)``: stacks by number: BPF_MAP_TYPE_STACK_TRACE (4.6).

    In kernel functions ``s.kernel()`` and ``s.user()`` give the number of
    the stack that led here, negative where there is none (``-14``: no stack
    of that kind).  Different stacks with one hash do not overwrite each
    other: the later one is not recorded and counted as lost.  On the user
    side ``s[number]`` is the list of its addresses, innermost first.

    Example::

        stacks = StackTraces()
        counts = Hash[s32, u64]()

        @perf_event("cpu-clock", frequency=99)
        def sample(ctx):
            number = stacks.kernel()
            if number >= 0:
                counts[number] += 1
    """

    map_type = STACK_TRACE

    def __init__(self, max_entries: int = 16384, depth: int = MAX_STACK_DEPTH) -> None:
        super().__init__()
        if not 1 <= depth <= 1024:
            raise TypeError("depth is from 1 to 1024")
        self.max_entries = max_entries
        self.depth = depth
        self._sim: list[list[int]] = []

    def kernel(self, skip: int = 0) -> int:
        """The number of the kernel stack, without its innermost ``skip`` frames (a constant)."""
        return self._number(list(machine.kernel_stack)[skip:])

    def user(self, skip: int = 0) -> int:
        """The number of the user stack."""
        return self._number(list(machine.user_stack)[skip:])

    def _number(self, stack: list[int]) -> int:
        if not stack:
            return -14
        if stack not in self._sim:
            self._sim.append(stack)
        return self._sim.index(stack)

    def __getitem__(self, number: int) -> list[int]:
        if number < 0:
            raise KeyError(number)
        if self.live is None:
            return self._sim[number]
        raw = self.live.lookup(encode(u32, number))
        if raw is None:
            raise KeyError(number)
        import struct

        return [word for word in struct.unpack(f"<{len(raw) // 8}Q", raw) if word]


class Counters(MapBase):
    """``Counters("instructions")``: a perf counter on every CPU that kernel functions read: 4.15.

    ``c.read()`` is the counter of the CPU that the probe runs on, 0 where
    that cannot be read (counted as lost).  Names are those of
    ``perf_event``.  BPF_MAP_TYPE_PERF_EVENT_ARRAY; the user side reads
    ``c.values()`` by CPU.

    Example::

        clock = Counters("cpu-clock")
        at = PerThread[u64]()
        spent = log2_hist("nsecs")

        @tracepoint("syscalls:sys_enter_read")
        def enter(call):
            at.value = clock.read()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            before = at.take()
            if before is not None:
                spent.add(clock.read() - before)
    """

    map_type = PERF_EVENT_ARRAY
    max_entries = 0  # one slot for each possible CPU

    def __init__(self, event: str) -> None:
        super().__init__()
        self.event = event
        self.reader: Any = None

    def read(self) -> int:
        """The counter's value on this CPU."""
        return int(machine.counters.get(self.event, 0))

    def values(self) -> dict[int, int]:
        """The counters by CPU."""
        return dict(self.reader.read()) if self.reader is not None else {machine.cpu: self.read()}


# --------------------------------------------------------------------------
# Variables


class Global(MapBase, metaclass=_MapType):
    """``Global[T](initial)``: one variable that all programs and the user side share (``.data``; 5.2).

    ``g.value`` reads it, ``g.value = v`` sets it, ``g.value += n`` is atomic
    for 32 and 64-bit numbers.  ``T`` may be a structure: ``g.value.field``.

    Example::

        total = Global[u64]()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            if call.ret > 0:
                total.value += call.ret
    """

    kind: Any = None
    max_entries = 1

    def __init__(self, initial: Any = None) -> None:
        super().__init__()
        if self.kind is None:
            raise TypeError("Global needs a type: Global[u64]()")
        self.initial = zero(self.kind) if initial is None else initial
        self._value = self.initial

    def fill(self) -> None:
        self.value = self._value

    @classmethod
    def typed(cls, kind: Any) -> type[Global]:
        """The subclass for a type."""
        kind = _plain(kind)
        size_align(kind)
        return type(f"{cls.__name__}[{_name(kind)}]", (cls,), {"kind": kind})

    @property
    def value(self) -> Any:
        """What it holds now."""
        if self.live is None:
            return self._value
        return decoder(self.kind)(self.live.lookup(b"") or b"")

    @value.setter
    def value(self, value: Any) -> None:
        if self.live is None:
            self._value = value
        else:
            self.live.update(b"", encode(self.kind, value))


class PerThread(MapBase, metaclass=_MapType):
    """``PerThread[T](max_entries=10240)``: a variable that each thread has for itself.

    In kernel functions ``v.value`` is the current thread's (zero at first),
    ``v.value = x`` and ``v.value += n`` change it, ``v.take()`` reads it and
    removes it and ``v.peek()`` reads it, both None where it was not set.  On
    the user side ``by_thread`` is a mapping from thread ids.  A hash map
    (3.19), so that it works on every kernel; threads that end without
    ``take()`` leave their value behind.

    Example::

        since = PerThread[u64]()
        slow = log2_hist("nsecs")

        @tracepoint("syscalls:sys_enter_read")
        def enter(call):
            since.value = ktime()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            start = since.take()
            if start is not None:
                slow.add(ktime() - start)
    """

    kind: Any = None

    def __init__(self, max_entries: int = DEFAULT_ENTRIES) -> None:
        if self.kind is None:
            raise TypeError("PerThread needs a type: PerThread[u64]()")
        self.by_thread: Map = Hash[u32, self.kind](max_entries)
        super().__init__()
        self.max_entries = max_entries

    @classmethod
    def typed(cls, kind: Any) -> type[PerThread]:
        """The subclass for a type."""
        kind = _plain(kind)
        size_align(kind)
        return type(f"{cls.__name__}[{_name(kind)}]", (cls,), {"kind": kind})

    def fill(self) -> None:
        self.by_thread.fill()

    @property
    def live(self) -> Any:
        """The map's own."""
        return self.by_thread.live

    @live.setter
    def live(self, live: Any) -> None:
        self.by_thread.live = live

    @property
    def value(self) -> Any:
        """The current thread's value (functions that run as Python)."""
        return self.by_thread[machine.pid]

    @value.setter
    def value(self, value: Any) -> None:
        self.by_thread[machine.pid] = value

    def peek(self) -> Any:
        """The current thread's value, None where it was not set."""
        return self.by_thread.get(machine.pid)

    def take(self) -> Any:
        """The same, and remove it."""
        return self.by_thread.pop(machine.pid)
