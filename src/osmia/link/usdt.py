# SPDX-License-Identifier: Apache-2.0
"""Static probes of user programs: uprobes that know their arguments and raise their semaphores.

The kernel counts a probe's semaphore up in every process while somebody is
attached (``ref_ctr_offset``, 4.20), so no process has to be named and those
that start later are traced too.
"""

from __future__ import annotations

import struct

from osmia.link import uprobe, user_places
from osmia.link.uprobe import UserLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from osmia.link.user_places import Found
    from osmia.load.map import LiveMap
    from osmia.load.program import LiveProg


def attach(
    prog: LiveProg, target: str = "", *, pid: int = 0, found: Found | None = None, copies: Sequence[LiveProg] = (),
    places: LiveMap | None = None, arguments: int = 0,
) -> UserLink:  # fmt: skip
    """Attach to ``FILE:PROVIDER:NAME``; ``places`` is the program's map of argument descriptions.

    ``arguments`` is how many the program reads.  The rest is as for
    :func:`osmia.link.uprobe.attach`.
    """
    if found is None:
        found = user_places.find("usdt", [target], pid=pid, arguments=arguments)
    if places is not None:
        describe(found, places)
    return uprobe.attach(prog, target, pid=pid, found=found, copies=copies)


def describe(found: Found, places: LiveMap) -> None:
    """Tell the program where each place keeps its arguments."""
    for number, place in enumerate(found.places):
        if place.record:
            places.update(struct.pack("<I", number), place.record)
