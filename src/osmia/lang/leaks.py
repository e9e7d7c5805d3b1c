# SPDX-License-Identifier: Apache-2.0
"""The template of tools that show what is held, and by which calls it was taken: memory, for example.

Other than counts, what is held gets less again, so a summary is the state
and not what was added since the last one; and two calls in one function are
two places, since only one of them may leak.
"""

from __future__ import annotations

from osmia.lang.templates import StackPart, StackTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from osmia.lang.maps import Ring
    from osmia.lang.stacks import Stacks


class Held:
    """What one place holds: its key (with the fields ``pid``, ``since``, ``stack``), how much, in how many pieces.

    ``pieces`` are ``(address, size)`` of each, where they are asked for.
    """

    __slots__ = ("amount", "count", "key", "pieces")

    def __init__(self, key: Any, amount: int = 0, count: int = 0, pieces: Sequence[tuple[int, int]] = ()) -> None:
        self.key = key
        self.amount = amount
        self.count = count
        self.pieces = list(pieces)


class HeldTable(StackTable):
    """What is held by stack, every few seconds.

    ``held`` gives what there is; ``top`` and ``order`` (``"size"`` or
    ``"count"``) are options that say which of it is shown; ``calls`` is a ring of
    single calls and ``call`` shows one of them.
    """

    view = "osmia.cli.leaks:HeldView"
    state = True

    def __init__(
        self,
        held: Callable[[], Iterable[Held]],
        stacks: Stacks,
        *,
        top: Any,
        order: Any,
        banner: Callable[[], str],
        calls: Ring,
        call: Callable[[Any], str],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        nothing: Any = None
        super().__init__(nothing, stacks, unit="bytes", parts=(StackPart("stack"),), banner=banner, intervals=True,
                         prepare=prepare)  # fmt: skip
        self.held = held
        self.top = top
        self.order = order
        self.calls = calls
        self.call = call
