# SPDX-License-Identifier: Apache-2.0
"""Sizes of maps of stacks, which depend on the machine: its CPUs, and how deep its kernel walks stacks."""

from __future__ import annotations

from osmia.kernel import cpus, proc
from osmia.lang.stacks import BYTES, MOST_FRAMES, TAKEN, USUAL_FRAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from osmia.load.assemble import Assembled
    from osmia.obj.spec import ObjectSpec


def most_frames() -> int:
    """Frames of a stack, at most: ``kernel.perf_event_max_stack`` (4.8), up to what there is room for."""
    text = proc.sysctl("kernel.perf_event_max_stack") or ""
    return max(1, min(int(text), MOST_FRAMES)) if text.isdecimal() else USUAL_FRAMES


def fit(
    spec: ObjectSpec, records: list[tuple[str, ...]], whole: Mapping[str, Assembled], sizes: Mapping[str, int]
) -> dict[str, int]:
    """``sizes`` with room for what each program fills on each CPU; the depth is set in ``spec``'s constants."""
    out = dict(sizes)
    for record in records:
        if record[0] != "stacks":
            continue
        name = record[1]
        fillers = sum(any(use[1] == name for use in program.uses) for program in whole.values())
        chunks = out.get(name) or spec.maps[name].max_entries
        out[name] = out[name + TAKEN] = chunks + fillers * cpus.slots()
    for data in spec.maps.values():
        if data.contents is not None and BYTES in data.variables:
            data.set(BYTES, (8 * most_frames()).to_bytes(8, "little"))
    return out
