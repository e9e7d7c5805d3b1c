# SPDX-License-Identifier: Apache-2.0
"""The template of tools that pass on what others write, byte by byte, as it is."""

from __future__ import annotations

from osmia.lang.templates import EventTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Mirror(EventTable):
    """Events of which people see ``data(event)`` and nothing else; for programs they are rows with the columns.

    ``noclear`` (an option): do not clear the screen first.
    """

    view = "osmia.cli.mirror:MirrorView"

    def __init__(self, *args: Any, data: Callable[[Any], bytes], noclear: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.data = data
        self.noclear = noclear
