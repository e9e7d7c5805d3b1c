# SPDX-License-Identifier: Apache-2.0
"""The module being built: maps, constants, functions and records that its functions turn out to need."""

from __future__ import annotations

from osmia.compiler import mapdefs, tir
from osmia.compiler.ktypes import Kernel
from osmia.compiler.layout import memory, struct
from osmia.compiler.source import Sources
from osmia.lang.codec import encode
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, MapBase, Ring
from osmia.lang.options import Option
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ast import FunctionDef
    from collections.abc import Collection
    from typing import Any

    from osmia.compiler.core import Fn
    from osmia.lang.unit import Unit

RING_FLAGS = "osmia_ring_flags"
PERF_BUFFER = "osmia_perf_buffer"
LOSSES = "osmia_loss"
PRINTS = "osmia_print"
SCRATCH = "osmia_scratch"
ZERO = "osmia_zero"
PRINT_RING_BYTES = 256 * 1024


class Builder:
    """Everything that a compilation gathers; :meth:`finish` makes the module.

    ``without``: options that are known to be off, so that nothing is compiled which only they want.
    """

    def __init__(self, unit: Unit, kernel: Kernel, without: Collection[Option] = ()) -> None:
        self.unit = unit
        self.kernel = kernel
        self.without = frozenset(without)
        self.sources = Sources()
        self.module = tir.Module(unit.name)
        self.meta: list[tuple[str, ...]] = []
        self.constants: dict[tuple[str, str], str] = {}
        self._objects: dict[int, tuple[str, Any]] = {}
        self._names: set[str] = set()
        self._losses: dict[tuple[str, str], int] = {}
        self._loss_function: tir.Func | None = None
        self._prints: dict[tuple[str, int, int], int] = {}
        self._printk: dict[tuple[str, str, str], tuple[str, str]] = {}
        self._scratch: dict[Any, int] = {}
        self._scratch_bytes = 0
        self._zero_bytes = 0
        #: Entry programs that another thread may run, too, before they have ended on the same CPU: those of uprobes.
        self.preempted: set[str] = set()
        self.functions: dict[Any, Any] = {}
        #: By syntax tree, which is kept so: names that it binds, and binds in passing.
        self.checked: dict[FunctionDef, tuple[set[str], set[str]]] = {}

    # -- names ----------------------------------------------------------

    def unique(self, name: str) -> str:
        """``name``, or with a number where it is taken."""
        made, n = name, 2
        while made in self._names:
            made, n = f"{name}_{n}", n + 1
        self._names.add(made)
        return made

    def _owner(self, item: Any, fallback: str) -> tuple[str, str]:
        """``(module, variable)`` under which ``item`` can be found again at a warm start."""
        for name, value in self.unit.namespace.items():
            if value is item:
                return "", name
        import sys

        # Ours first: options that tools share are there, and the standard library has thousands of names.
        for module in sorted(sys.modules, key=lambda name: not name.startswith("osmia.")):
            for name, value in list(getattr(sys.modules.get(module), "__dict__", {}).items()):
                if value is item:
                    return module, name
        return "", fallback

    # -- maps and options -----------------------------------------------

    def map(self, item: MapBase) -> str:
        """The name of ``item``'s map in the object, which is defined at the first use."""
        known = self._objects.get(id(item))
        if known is not None:
            return known[0]
        module, variable = self._owner(item, item.name or "map")
        if not item.name:
            item.name = variable
        name = self.unique(variable)
        self._objects[id(item)] = name, item
        if mapdefs.special(self, name, module, variable, item):
            return name
        self.module.maps.append(self._definition(name, item))
        self.meta.append(("map", name, module, variable))
        return name

    def also(self, item: MapBase, name: str) -> None:
        """``item`` stands for the map ``name``, too."""
        self._objects[id(item)] = name, item

    def _definition(self, name: str, item: MapBase) -> tir.MapDef:
        if isinstance(item, Ring):
            made = struct(item.event.__name__, item.event.layout())
            if made not in self.module.exports:  # several rings may carry one kind of event
                self.module.exports.append(made)
            self.meta.append(("ring", name, item.event.__name__))
            return mapdefs.ring(name, item)
        if isinstance(item, Hist):
            key = memory(item.key) if item.keyed else tir.U32
            return tir.MapDef(name, item.map_type, key, hist_memory(item), item.max_entries, pinned=item.pinned)
        if isinstance(item, Map):
            return mapdefs.dictionary(name, item)
        return mapdefs.definition(name, item)

    def option(self, item: Option) -> str:
        """The name of the ``.rodata`` variable of an option."""
        known = self._objects.get(id(item))
        if known is not None:
            return known[0]
        module, variable = self._owner(item, item.name or "option")
        name = self.unique(f"opt_{variable}")
        self._objects[id(item)] = name, item
        default = item.default if item.default is not None else 0
        self.module.data.append(tir.Data(name, ".rodata", memory(item.stored), encode(item.stored, default), True))
        self.meta.append(("option", name, module, variable))
        return name

    def ring_flags(self) -> str:
        """The ``.rodata`` variable with the flags of every send (0, or BPF_RB_NO_WAKEUP)."""
        if RING_FLAGS not in self._names:
            self._names.add(RING_FLAGS)
            self.module.data.append(tir.Data(RING_FLAGS, ".rodata", tir.U64, bytes(8), True))
        return RING_FLAGS

    def uses_printk(self, place: tuple[str, str, str], feature: str, what: str) -> None:
        """A program writes to the trace pipe, so that a reader is wanted.

        ``place`` is the program, ``file:line`` and column; ``feature`` what
        the kernel must have for it, as there is ``what`` in the line.  A
        function is compiled several times: the last time counts.
        """
        self._printk[place] = feature, what

    def perf_buffer(self) -> str:
        """The ``.rodata`` variable that is set where the rings are perf buffers."""
        if PERF_BUFFER not in self._names:
            self._names.add(PERF_BUFFER)
            self.module.data.append(tir.Data(PERF_BUFFER, ".rodata", tir.U64, bytes(8), True))
        return PERF_BUFFER

    def text(self, raw: bytes) -> str:
        """A constant of these bytes; its name."""
        key = ("text", raw)
        known = self._objects.get(hash(key))
        if known is not None and known[1] == key:
            return known[0]
        name = self.unique("text")
        self._objects[hash(key)] = name, key
        self.module.data.append(tir.Data(name, ".rodata", tir.Array(tir.CHAR, len(raw)), raw))
        return name

    def zero(self, size: int) -> str:
        """A read-only stretch of at least ``size`` zero bytes, to create map values from."""
        self._zero_bytes = max(self._zero_bytes, size)
        return ZERO

    def scratch(self, key: Any, size: int) -> int:
        """Index of the per-CPU scratch memory that belongs to ``key`` alone, at least ``size`` bytes."""
        self._scratch_bytes = max(self._scratch_bytes, (size + 7) // 8 * 8)
        return self._scratch.setdefault(key, len(self._scratch))

    # -- losses and prints ----------------------------------------------

    def loss(self, kind: str, what: str) -> int:
        """The counter of one kind of loss of one thing."""
        return self._losses.setdefault((kind, what), len(self._losses))

    def loss_function(self, fn: Fn) -> tir.Func:
        """The function that adds to a counter: ``osmia_lost(slot, n)``."""
        if self._loss_function is not None:
            return self._loss_function
        slot, n = tir.Local("slot", tir.S64), tir.Local("n", tir.S64)
        key, found = tir.Local("key", tir.U32), tir.Local("found", tir.Ptr("mem"))
        line = fn.source.node.lineno
        loc = (line, 0)
        made = tir.Func("osmia_lost", "", [slot, n], tir.VOID, fn.file.name, line, inline=False)
        made.locals = [key, found]
        at_key = tir.AddrOf(tir.Ptr("mem"), loc, key)
        counters = tir.Global(tir.Ptr("mem"), loc, LOSSES)
        look = tir.Helper(tir.Ptr("mem"), loc, consts.BPF_FUNC_map_lookup_elem, [counters, at_key])
        value = tir.Get(tir.Ptr("mem"), loc, found)
        add = tir.Atomic(tir.VOID, loc, "add", value, tir.Get(tir.S64, loc, n), tir.U64)
        made.body = [
            tir.Store(loc, at_key, tir.Get(tir.S64, loc, slot), tir.U32),
            tir.Set(loc, found, look),
            tir.If(loc, tir.Cmp(tir.BOOL, loc, "ne", value, tir.Const(tir.Ptr("mem"), loc, 0)), [tir.Eval(loc, add)]),
            tir.Return(loc),
        ]
        self._loss_function = made
        self.module.funcs.append(made)
        return made

    def print_id(self, place: tuple[str, int, int], form: str, codes: str) -> int:
        """The number of one ``print`` in the source."""
        known = self._prints.get(place)
        if known is None:
            known = self._prints[place] = len(self._prints)
            self.meta.append(("print", str(known), form, codes, f"{place[0]}:{place[1]}"))
        return known

    # -- the end --------------------------------------------------------

    def finish(self) -> tir.Module:
        """Add what the functions asked for, and give the module."""
        from osmia.obj import meta

        module = self.module
        if self._losses:
            module.maps.append(
                tir.MapDef(LOSSES, consts.BPF_MAP_TYPE_PERCPU_ARRAY, tir.U32, tir.U64, len(self._losses))
            )
            for (kind, what), slot in self._losses.items():
                self.meta.append(("loss", str(slot), kind, what))
        if self._printk:
            self.meta.append(("printk",))
            for (prog, where, _), (feature, what) in self._printk.items():
                if feature:
                    self.meta.append(("printk", prog, feature, where, what))
        if self._prints:
            module.maps.append(tir.MapDef(PRINTS, consts.BPF_MAP_TYPE_RINGBUF, None, None, PRINT_RING_BYTES))
        if self._scratch:
            room = tir.Array(tir.U64, self._scratch_bytes // 8)
            module.maps.append(
                tir.MapDef(SCRATCH, consts.BPF_MAP_TYPE_PERCPU_ARRAY, tir.U32, room, len(self._scratch))
            )
        if self._zero_bytes:
            module.data.append(tir.Data(ZERO, ".rodata", tir.Array(tir.U64, (self._zero_bytes + 7) // 8)))
        module.meta = meta.dump(self.meta)
        return module


def hist_memory(hist: Hist) -> tir.Struct:
    """The value of a histogram's map (see :class:`osmia.lang.hist.Hist`)."""
    members = [tir.Member(name, tir.U64, at * 8) for at, name in enumerate(("sum", "inverse_min", "max"))]
    members.append(tir.Member("slots", tir.Array(tir.U64, hist.slots), 8 * Hist.HEAD))
    return tir.Struct(f"hist_{hist.kind}_{hist.slots}", tuple(members), 8 * (Hist.HEAD + hist.slots), 8)
