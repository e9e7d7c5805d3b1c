# SPDX-License-Identifier: Apache-2.0
"""The template of tools that look for cycles in the order in which a program takes its locks."""

from __future__ import annotations

from osmia.lang.templates import StackPart, StackTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.lang.maps import Hash
    from osmia.lang.stacks import Stacks


class LockOrder(StackTable):
    """Ends with the first cycle, and shows where its locks were taken.

    ``edges`` maps (``first``, ``second``: addresses of locks) to who took the
    second while holding the first, and where (``first_stack``,
    ``second_stack``, ``tid``, ``pid``, ``since``, ``comm``); ``threads`` maps
    threads to who made them, and where (``stack``, ``tid`` ...).  ``dump`` is
    an option: a file for the graph as JSON.
    """

    view = "osmia.cli.lockorder:LockOrderView"
    pictures = ()  # type: ignore[assignment]

    def __init__(
        self,
        edges: Hash,
        threads: Hash,
        stacks: Stacks,
        *,
        dump: Any,
        banner: str,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(edges, stacks, parts=(StackPart("stack"),), banner=banner, prepare=prepare)
        self.edges = edges
        self.threads = threads
        self.dump = dump
