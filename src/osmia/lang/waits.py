# SPDX-License-Identifier: Apache-2.0
"""The template of tools that show how long threads wait for something that has an address, and where."""

from __future__ import annotations

from osmia.lang.templates import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.lang.hist import Hist
    from osmia.lang.stacks import Stacks


class Waits(Histogram):
    """A histogram per thread, lock and user stack, each headed by a line with count, average and extremes.

    The key is an event with ``comm``, ``pid``, ``tid`` (0: all threads of the process), ``lock`` (an address),
    ``user`` (a number of ``user_stacks``, or 0) and ``since`` of :func:`osmia.lang.images.image`.
    """

    view = "osmia.cli.waits:WaitView"
    pictures = ()  # type: ignore[assignment]

    def __init__(
        self,
        hist: Hist,
        user_stacks: Stacks,
        *,
        unit: Callable[[], str],
        banner: str,
        prepare: Callable[[], None] | None = None,
        **named: Any,
    ) -> None:
        super().__init__(hist, unit=unit, banner=banner, prepare=prepare, section="wait", **named)
        self.user_stacks = user_stacks
