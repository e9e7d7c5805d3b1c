# SPDX-License-Identifier: Apache-2.0
"""Definitions of maps for the object, by the author's kind of map."""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.layout import memory
from osmia.lang.codec import encode
from osmia.lang.maps import Map, MapBase, Ring
from osmia.lang.maps_more import Keyless
from osmia.lang.maps_special import ArrayOfMaps, Counters, Global, PerThread, ProgArray, StackTraces
from osmia.lang.recorder import FlightRecorder
from osmia.lang.stacks import Stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.compiler.builder import Builder

VARIABLES = ".data"


def special(mod: Builder, name: str, module: str, variable: str, item: Any) -> bool:
    """What is no map of its own under its own name; False for everything else."""
    if isinstance(item, Global):
        init = encode(item.kind, item.initial)
        mod.module.data.append(tir.Data(name, VARIABLES, memory(item.kind), init, True))
        mod.meta.append(("global", name, module, variable))
        return True
    if isinstance(item, PerThread):
        item.by_thread.pinned = item.pinned
        mod.module.maps.append(dictionary(name, item.by_thread))
        mod.meta.append(("map", name, module, variable))
        mod.also(item.by_thread, name)
        return True
    if isinstance(item, Stacks):
        from osmia.compiler import stackops

        stackops.define(mod, name, module, variable, item)
        return True
    if isinstance(item, ProgArray):
        for index, prog in item.progs.items():
            mod.meta.append(("tail", name, str(index), prog.name))
    elif isinstance(item, Counters):
        mod.meta.append(("counter", name, item.event))
    elif isinstance(item, FlightRecorder):
        mod.meta.append(("recorder", name, str(item.size)))
    return False


def dictionary(name: str, item: Map) -> tir.MapDef:
    """A map with keys and values."""
    return tir.MapDef(name, item.map_type, memory(item.key), memory(item.value), item.max_entries, item.flags,
                      item.extra, item.pinned)


def ring(name: str, item: Ring) -> tir.MapDef:
    """A ring buffer, or the array of perf events that stands for one."""
    if isinstance(item, FlightRecorder):
        return tir.MapDef(name, item.map_type, tir.U32, tir.U32, 0)
    return tir.MapDef(name, item.map_type, None, None, item.max_entries, pinned=item.pinned)


def definition(name: str, item: MapBase) -> tir.MapDef:
    """All other kinds."""
    if isinstance(item, Keyless):
        return tir.MapDef(name, item.map_type, None, memory(item.value), item.max_entries, item.flags, item.extra,
                          item.pinned)
    if isinstance(item, ArrayOfMaps):
        return tir.MapDef(name, item.map_type, memory(item.key), tir.U32, item.max_entries, pinned=item.pinned,
                          inner=dictionary("", item.inner))
    if isinstance(item, ProgArray):
        return tir.MapDef(name, item.map_type, tir.U32, tir.U32, item.max_entries, pinned=item.pinned)
    if isinstance(item, StackTraces):
        return tir.MapDef(name, item.map_type, tir.U32, tir.Array(tir.U64, item.depth), item.max_entries,
                          pinned=item.pinned)
    if isinstance(item, Counters):
        return tir.MapDef(name, item.map_type, tir.U32, tir.U32, 0)
    raise TypeError(f"{item!r} is no map")
