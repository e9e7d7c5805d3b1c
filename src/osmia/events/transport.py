# SPDX-License-Identifier: Apache-2.0
"""The readers of a loaded object: of its rings, whatever they are made of, its recorders and its counters."""

from __future__ import annotations

from osmia.events.ring import Ring
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from osmia.load.object import LiveObject


def open_readers(live: LiveObject, records: list[tuple[str, ...]], bound: Iterable[Any] = ()) -> dict[str, Any]:
    """A reader for each map that has one, by the map's name.

    ``bound`` are the author's objects: a recorder and a counter get to know
    their reader.  Raises what opening perf events raises; nothing stays open
    then.
    """
    readers: dict[str, Any] = {}
    objects = {one.live.name: one for one in bound if getattr(one, "live", None) is not None and hasattr(one, "reader")}
    try:
        for name, one in live.maps.items():
            if name in live.perf_rings:
                from osmia.events.perfbuf import PerfBuffer

                readers[name] = PerfBuffer(one.fd, live.perf_rings[name])
            elif one.type == consts.BPF_MAP_TYPE_RINGBUF:
                readers[name] = Ring(one.fd, one.max_entries)
        for record in records:
            if record[0] in ("recorder", "counter") and record[1] in live.maps:
                made = readers[record[1]] = _more(record, live.maps[record[1]].fd, objects.get(record[1]))
                if record[1] in objects:
                    objects[record[1]].reader = made
            elif record == ("printk",):
                from osmia.kernel.trace_pipe import TracePipe

                readers[TRACE_PIPE] = TracePipe()
    except BaseException:
        for reader in readers.values():
            reader.close()
        raise
    return readers


#: Under which name the trace pipe's reader is found; no map can be called so.
TRACE_PIPE = "trace pipe"


def _more(record: tuple[str, ...], fd: int, item: Any) -> Any:
    if record[0] == "counter":
        from osmia.events.counters import CounterReader

        return CounterReader(fd, record[2])
    from osmia.events.perfbuf import Recorder

    return Recorder(fd, int(record[2]), item.seconds if item is not None else 0.0)
