# SPDX-License-Identifier: Apache-2.0
"""The clock of a recording, for everything that shows times.

Views and tools ask the module :mod:`time`, each under that name.  During a
replay they find a :class:`Clock` there, which stands where the block stands
that is being shown, in the time zone of the recorded machine.  So a replay
prints what the run would have printed, and no run pays for it.
"""

from __future__ import annotations

import sys
import time
from time import gmtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from time import struct_time
    from typing import Any, Protocol

    class Source(Protocol):
        """What knows the time: a recording that is written, or one that is replayed."""

        @property
        def now(self) -> int: ...
        @property
        def offset(self) -> int: ...
        @property
        def gmtoff(self) -> int: ...


#: Modules whose ``time`` is replaced: those that show something.
_SHOWING = ("osmia.cli.templates", "osmia.cli.summaries", "osmia.cli.stack_hists", "osmia.cli.pictures", "osmia.views.",
            "osmia.tools.")  # fmt: skip


class Clock:
    """As the module :mod:`time`, at the time of ``source``; what is not here is the module's own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._replaced: list[Any] = []

    def monotonic_ns(self) -> int:
        return self._source.now

    def monotonic(self) -> float:
        return self._source.now / 1e9

    def time_ns(self) -> int:
        return self._source.now + self._source.offset

    def time(self) -> float:
        return self.time_ns() / 1e9

    def localtime(self, seconds: float | None = None) -> struct_time:
        return gmtime((self.time() if seconds is None else seconds) + self._source.gmtoff)

    def strftime(self, form: str, when: Any = None) -> str:
        return time.strftime(form, self.localtime() if when is None else when)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def installed(self) -> Clock:
        """For a ``with`` block: this is the clock of all that shows times, as far as it is imported by then."""
        return self

    def __enter__(self) -> Clock:
        for name, module in list(sys.modules.items()):
            if name.startswith(_SHOWING) and vars(module).get("time") is time:
                module.time = self  # type: ignore[attr-defined]
                self._replaced.append(module)
        return self

    def __exit__(self, *exc: object) -> None:
        while self._replaced:
            self._replaced.pop().time = time


class Untouched:
    """In place of an installed clock: the machine's own."""

    def __enter__(self) -> Untouched:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
