# SPDX-License-Identifier: Apache-2.0
"""What others write, on our own screen: bytes are not escaped here, or it would be no mirror."""

from __future__ import annotations

import os

from osmia.cli.page import CLEAR
from osmia.cli.templates import EventsView, mode_of
from osmia.events.decode import Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from osmia.cli.session import Session
    from osmia.lang.mirror import Mirror


class MirrorView(EventsView):
    """The template :class:`osmia.lang.mirror.Mirror`."""

    def __init__(self, session: Session, template: Mirror) -> None:
        super().__init__(session, template)
        self._mirror = template
        self._out = session.out
        self._plain = mode_of(session) == "table"
        self._decoder = Decoder(template.ring.event)

    def begin(self) -> str:
        if not self._plain:
            return super().begin()
        return CLEAR if not self._mirror.noclear and self._out.fd >= 0 and os.isatty(self._out.fd) else ""

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        if not self._plain:
            return super().readers()
        return [(self._ring, self._pass_on)]

    def _pass_on(self, span: bytes) -> str:
        keep, data = self._mirror.keep, self._mirror.data
        self._out.write_bytes(b"".join([data(one) for one in self._decoder.objects(span) if not keep or keep(one)]))
        return ""
