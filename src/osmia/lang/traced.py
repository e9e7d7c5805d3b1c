# SPDX-License-Identifier: Apache-2.0
"""What tools show whose programs were made of specifications: messages (trace), distributions (argdist)."""

from __future__ import annotations

from osmia.lang.templates import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Messages(Template):
    """A line for each event, as bcc's trace prints it; ``options`` are the tool's, by name."""

    view = "osmia.cli.traced:MessagesView"
    careful = True
    rings = True

    def __init__(
        self, prepare: Callable[[], None], declares: Callable[[], tuple[dict[str, Any], str]], options: Any, stacks: Any
    ) -> None:
        self.prepare = prepare
        self.declares = declares
        self.options = options
        self.stacks = stacks
        self.ring: Any = None
        self.probes: list[Any] = []


class Distributions(Template):
    """Counts and histograms of several specifications every interval, as bcc's argdist prints them."""

    view = "osmia.cli.distributions:DistributionsView"
    careful = True

    def __init__(
        self, prepare: Callable[[], None], declares: Callable[[], tuple[dict[str, Any], str]], options: Any
    ) -> None:
        self.prepare = prepare
        self.declares = declares
        self.options = options
        self.probes: list[Any] = []
