# SPDX-License-Identifier: Apache-2.0
"""Returns of many kernel functions with one link: see :mod:`osmia.link.kprobe_multi`."""

from __future__ import annotations

from osmia.link.kprobe_multi import attach_many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from osmia.kernel.functions import Choice
    from osmia.link.base import Link
    from osmia.load.program import LiveProg


def attach(
    prog: LiveProg, target: str, *, patterns: Iterable[str] = (), choice: Choice | None = None,
    copies: Sequence[LiveProg] = (),
) -> Link:  # fmt: skip
    """Attach to the return of every function that one of ``patterns`` (default: the target) matches."""
    return attach_many(prog, [str(p) for p in patterns] or [target], "kretprobe_multi", choice, copies)
