# SPDX-License-Identifier: Apache-2.0
"""Tools that say a sentence at the beginning and one at the end: what they did, and how often."""

from __future__ import annotations

from osmia.cli.templates import View, mode_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session


class ToldView(View):
    """``template.banner`` first and ``template.told`` at the end, both functions that give text."""

    def __init__(self, session: Session, template: Any) -> None:
        self._template = template
        self._mode = mode_of(session)

    def begin(self) -> str:
        text: str = self._template.banner() if self._mode == "table" else ""
        return text

    def summary(self, last: bool) -> str:
        text: str = self._template.told()
        if self._mode == "table":
            return text
        number = "".join(c for c in text if c.isdecimal())
        return f'{{"failed":{number}}}\n' if self._mode == "json" else f"{number}\n"
