# SPDX-License-Identifier: Apache-2.0
"""Where the programs of a run will attach, looked up before anything is loaded, for tools whose user says where.

The number is wanted three times: maps get their sizes by it, the tool says
it, and where it is large the user is asked first.  A program's places have
numbers of their own, its attach cookies; :attr:`osmia.lang.probes.Prog.names`
says what they stand for.
"""

from __future__ import annotations

from osmia.cli import plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.kernel.functions import Choice
    from osmia.lang.probes import Hook, Prog

FUNCTIONS = ("kprobe_multi", "kretprobe_multi")
USER = ("uprobe", "uretprobe", "usdt")


class Placed:
    """The places of one run: ``count`` of them, in ``kinds`` (hook's kind to number of places)."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._choices: dict[tuple[str, ...], Choice] = {}
        self.kinds: dict[str, int] = {}
        self.copies: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Places, those of entries and returns each."""
        return sum(self.kinds.values())

    def find(self, chosen: dict[Prog, Hook]) -> None:
        """Look all of them up.  Raises NotFound, NotSupported where a program has none."""
        from osmia.kernel import features

        self.kinds, self.copies = {}, {}
        for prog, hook in chosen.items():
            names = self._names(prog, hook)
            prog.names = names
            self.kinds[hook.kind] = self.kinds.get(hook.kind, 0) + len(names)
            if len(names) > 1 and hook.kind not in USER and not features.attach_cookies():
                self.copies[prog.elf_name(hook)] = len(names)

    def _names(self, prog: Prog, hook: Hook) -> list[str]:
        if hook.kind in FUNCTIONS:
            return [one.name for one in self._choice(prog, hook).functions]
        if hook.kind in USER and self._session.user is not None:
            found = self._session.user.places(prog, hook).places
            prog.targets = [one.target for one in found]
            return [one.name for one in found]
        where = hook.params.get("where")
        return list(hook.targets if where is None else plans.told(where))

    def _choice(self, prog: Prog, hook: Hook) -> Choice:
        """The same for entries and returns of the same functions, so that their cookies agree."""
        from osmia.kernel import functions

        patterns = plans.told(hook.params["patterns"]) or (hook.target,)
        if patterns not in self._choices:
            self._choices[patterns] = functions.matching(patterns, hook.kind, prog.name)
        return self._choices[patterns]

    def parameters(self, prog: Prog, hook: Hook) -> dict[str, Any]:
        """What attaching ``prog`` needs to know of it."""
        if hook.kind not in FUNCTIONS:
            return {}
        live = self._session.live
        copies = live.copies.get(prog.elf_name(hook), ()) if live is not None else ()
        return {"choice": self._choice(prog, hook), "copies": copies}
