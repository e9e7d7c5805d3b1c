# SPDX-License-Identifier: Apache-2.0
"""A unit: what one module (a tool, an example, a user's file) declares, gathered by looking through its globals."""

from __future__ import annotations

from osmia.lang.maps import MapBase
from osmia.lang.options import Option
from osmia.lang.probes import Prog
from osmia.lang.templates import BeforeAttach, Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Unit:
    """The programs, maps, options and template of one module; ``name`` is the object's name.

    ``setups`` run between load and attach, in the order in which they are written.
    A tuple or dictionary of programs is as good as the programs by name: a module that several tools share can
    offer those that belong together as one.
    ``made_of`` is what the command line said of programs that depend on it.
    """

    __slots__ = ("doc", "made_of", "maps", "name", "namespace", "options", "progs", "setups", "template")

    def __init__(self, name: str, namespace: Mapping[str, Any]) -> None:
        self.name = name
        self.namespace = namespace
        self.doc: str = namespace.get("__doc__") or ""
        self.progs: list[Prog] = []
        self.maps: dict[str, MapBase] = {}
        self.options: list[Option] = []
        self.template: Template | None = None
        self.setups: list[BeforeAttach] = []
        self.made_of = ""
        for key, value in list(namespace.items()):
            self._take(key, value)
            for prog in _programs_in(value):
                self._take(key, prog)

    def _take(self, key: str, value: Any) -> None:
        if isinstance(value, Prog):
            if value not in self.progs:
                self.progs.append(value)
        elif isinstance(value, MapBase):
            value.name = value.name or key
            self.maps.setdefault(key, value)
        elif isinstance(value, Option):
            value.name = value.name or key
            if not any(value is one for one in self.options):  # == compares their values
                self.options.append(value)
        elif isinstance(value, Template) and self.template is None:
            self.template = value
        elif isinstance(value, BeforeAttach) and value not in self.setups:
            self.setups.append(value)

    def prepare(self) -> None:
        """Options have their values: let the template look at them, and choose another one to be shown."""
        if self.template is not None and self.template.prepare is not None:
            other = self.template.prepare()
            self.template = other if isinstance(other, Template) else self.template

    def declare(self, names: Mapping[str, Any], made_of: str) -> None:
        """Add programs and maps that were made of ``made_of``, by name: the object depends on that text, too."""
        self.namespace = {**self.namespace, **names}
        self.made_of = made_of
        for key, value in names.items():
            self._take(key, value)


def _programs_in(value: Any) -> list[Prog]:
    """The programs of a tuple, or of a dictionary's values, which may be tuples of them; empty for anything else."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, tuple):
        return []
    return [prog for one in value for prog in ([one] if isinstance(one, Prog) else _programs_in(one))]
