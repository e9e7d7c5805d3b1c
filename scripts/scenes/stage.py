# SPDX-License-Identifier: Apache-2.0
"""What scenes are made of."""

from __future__ import annotations

import os
from collections.abc import Callable

LINES = 48  # of output, at most


class Scene:
    """What is to be seen: a command line (``{pid}``, ``{disk}`` are filled in) and what happens meanwhile."""

    def __init__(
        self, command: str, work: Callable[[Stage], None], stage: Callable[[], Stage] | None = None, lines: int = LINES
    ) -> None:
        self.command = command
        self.lines = lines
        self.work = work
        self.stage = stage or Stage


class Stage:
    """What a scene needs before the tool starts; ``names`` go into the command line."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {"ppid": str(os.getpid())}

    def close(self) -> None:
        """Take it down."""


