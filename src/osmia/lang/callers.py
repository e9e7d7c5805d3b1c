# SPDX-License-Identifier: Apache-2.0
"""The template of tools that measure something in the kernel by the function that asked for it."""

from __future__ import annotations

from osmia.lang.templates import StackPart, StackTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from osmia.lang.probes import Prog
    from osmia.lang.stacks import Stacks


class Times:
    """What one stack has to show: how often, the longest and the sum of all times (ns), and what kind it is."""

    __slots__ = ("count", "key", "kind", "longest", "total")

    def __init__(self, key: Any, kind: str = "") -> None:
        self.key = key
        self.kind = kind
        self.count = self.longest = self.total = 0

    def add(self, count: int, longest: int, total: int) -> None:
        """Others of the same kind."""
        self.count += count
        self.total += total
        self.longest = max(self.longest, longest)


class CallerTable(StackTable):
    """Times by caller: average, count, longest and sum, as bcc's klockstat prints them.

    ``times`` gives the waits that have come since it was called last, ``held``
    the times of holding, which only the programs ``holding`` can measure: where
    none of them runs, the user is told that there are none.  The caller is the
    innermost frame whose function ``inner`` does not know as one of its own
    (of locking, for example).  Options: ``sort`` (``acq_max``, ``acq_total``,
    ``acq_count`` for the waits, the same with ``hld_`` for the others, separated
    by commas), ``most`` rows, ``frames`` of the stack that are shown, ``caller``,
    with which the function's name must begin.
    """

    view = "osmia.cli.callers:CallerView"

    def __init__(
        self,
        times: Callable[[], Iterable[Times]],
        stacks: Stacks,
        *,
        held: Callable[[], Iterable[Times]],
        holding: Sequence[Prog],
        inner: Callable[[str], bool],
        sort: Any,
        most: Any,
        frames: Any,
        caller: Any,
        banner: str,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        nothing: Any = None
        super().__init__(nothing, stacks, unit="ns", parts=(StackPart("stack"),), banner=banner, waiting=True,
                         intervals=True, prepare=prepare)  # fmt: skip
        self.times = times
        self.held = held
        self.holding = holding
        self.inner = inner
        self.sort = sort
        self.most = most
        self.frames = frames
        self.caller = caller
