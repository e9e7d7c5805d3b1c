# SPDX-License-Identifier: Apache-2.0
"""The head of a table that is shown page by page, as ``top`` does."""

from __future__ import annotations

import time

from osmia.cli.pictures import is_terminal
from osmia.kernel.proc import load_averages

#: What clears a terminal: to the upper left, then everything, then what had scrolled away.
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def page(fd: int, *, clear: bool, loads: bool = True) -> str:
    """With ``loads`` the time and the load averages; before that an empty line or, with ``clear``, a clean terminal."""
    start = CLEAR if clear and is_terminal(fd) else "\n"
    if not loads:
        return start
    return f"{start}{time.strftime('%H:%M:%S')} loadavg: {load_averages()}\n\n"
