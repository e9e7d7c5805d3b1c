# SPDX-License-Identifier: Apache-2.0
"""Maps that need a decision: rings, which may have to be perf buffers, and maps that are pinned."""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.kernel import features
from osmia.load import map as maps
from osmia.obj import consts
from osmia.obj.spec import MapSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.object import LiveObject
    from osmia.obj.spec import ObjectSpec

_PIN_BY_NAME = 1
#: The constant that is set where the rings are perf buffers: see :mod:`osmia.compiler.transport`.
PERF_BUFFER = "osmia_perf_buffer"


def make_map(spec: MapSpec, live: LiveObject, size: int, whole: ObjectSpec, pin_root: str) -> maps.LiveMap:
    """The map of ``spec``: new, or the one that is pinned under its name.  ``size`` overrides its entries."""

    def make() -> maps.LiveMap:
        return maps.create(spec, btf_fd=live.btf_fd, max_entries=size, prefix=whole.name)

    if spec.pinning == _PIN_BY_NAME:
        from osmia.load import pin

        return pin.reuse_or_make(spec, f"{pin_root}/{spec.name}", make, size)
    if spec.type != consts.BPF_MAP_TYPE_RINGBUF:
        return make()
    flag = next((one for one in whole.maps.values() if PERF_BUFFER in one.variables), None)
    if flag is None or not (live.perf_rings or features.off("ringbuf")):
        try:
            return make()
        except NotSupported:
            if flag is None or features.has("ringbuf") is not False:
                raise
    flag.set(PERF_BUFFER, (1).to_bytes(8, "little"))
    live.perf_rings[spec.name] = size or spec.max_entries
    live.notes.append(f"{spec.name}: perf buffers, because this kernel has no ring buffer")
    return maps.create(MapSpec(spec.name, consts.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4))
