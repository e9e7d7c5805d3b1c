# SPDX-License-Identifier: Apache-2.0
"""Probes of user programs within a session: found before anything is loaded, since the loader must know how many.

What a target means depends on the command line (``-p``, ``-c``), and whether
one link or many are made decides how the program is loaded.
"""

from __future__ import annotations

import sys

from osmia.errors import NotFound, NotSupported, UserError
from osmia.lang.options import Option
from osmia.lang.user_probes import USDT_MAP
from osmia.link import attach, uprobe, user_places
from osmia.link.user_places import Found
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.probes import Hook, Prog
    from osmia.link.base import Link
    from osmia.load.object import LiveObject
    from osmia.obj.spec import ObjectSpec


class UserProbes:
    """The user probes of one session.

    ``sizes`` and ``copies`` are what :func:`osmia.load.object.load` wants to
    know: sizes of maps, and how often a program is attached.
    """

    def __init__(self, session: Session) -> None:
        from osmia.cli.common import shared_filter

        self._session = session
        self._found: dict[tuple[str, tuple[str, ...], int], Found] = {}
        self._told: list[Found] = []
        self._spec: ObjectSpec | None = None  # that these have been prepared in
        self._prepared: set[tuple[Prog, Hook]] = set()
        self.sizes: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        only = shared_filter(session.unit, "pid")
        self.pid: int = int(only.value) if only is not None and only.given else 0
        tree = session.unit.template is not None and session.unit.template.descendants
        if session.command is not None and only is not None and not only.given and not tree:
            self.pid = session.command.pid  # not what it starts: a probe is for one process, or for all
        self._program = ""
        # A command that has not been started yet is still a copy of this process, whose files are not its own.
        self._view = self.pid
        if session.command is not None and self.pid == session.command.pid:
            self._view = 0
            self._program = session.common.cmd.value.split()[0] if session.common.cmd.value.split() else ""

    def places(self, prog: Prog, hook: Hook) -> Found:
        """Where ``hook`` attaches ``prog``.  Raises UserErrors."""
        targets = _targets(hook)
        arguments = prog.function.__code__.co_argcount if hook.kind == "usdt" else 0
        # Entries and returns of the same functions have the same places, in the same order: what goes for the
        # returns (not all functions may be probed there) goes for both, and so their cookies agree.
        kind = "uretprobe" if hook.kind == "uprobe" and targets in self._returns() else hook.kind
        known = self._found.get((kind, targets, arguments))
        if known is None:
            known = user_places.find(kind, targets, pid=self._view, program=self._program, arguments=arguments)
            self._found[kind, targets, arguments] = known
        return known

    def _returns(self) -> list[tuple[str, ...]]:
        """What is probed at its return."""
        return [_targets(hook) for hook in self._session.chosen.values() if hook.kind == "uretprobe"]

    def prepare(self, chosen: dict[Prog, Hook]) -> None:
        """Find everything and say how the programs are to be loaded.

        What has no place moves to the next hook of its plan; optional
        programs that are at the end of theirs leave ``chosen``.
        """
        spec = None
        while spec is not self._session.spec:  # another one may be taken on the way, to have the next hook
            spec = self._session.spec
            if self._spec is not spec:
                self._spec = spec
                self._prepared.clear()
            for prog in list(chosen):
                self._prepare_plan(spec, prog, chosen)

    def _prepare_plan(self, spec: ObjectSpec, prog: Prog, chosen: dict[Prog, Hook]) -> None:
        while prog in chosen and chosen[prog].kind in user_places.KINDS:
            hook = chosen[prog]
            if (prog, hook) in self._prepared:
                break
            try:
                self._prepare(spec, prog, hook)
            except (NotFound, NotSupported) as err:
                if self._session.next_hook(prog, err):
                    if self._session.spec is not spec:
                        break
                    continue
                if not prog.optional:
                    raise
                self._session.note(f"{prog.name}: left out: {err}")
                del chosen[prog]

    def _prepare(self, spec: ObjectSpec, prog: Prog, hook: Hook) -> None:
        found = self.places(prog, hook)
        self._prepared.add((prog, hook))
        if not any(found is one for one in self._told):
            self._told.append(found)
            self._tell(prog, found)
        self._loading(spec, prog.elf_name(hook), len(found.places))

    def _tell(self, prog: Prog, found: Found) -> None:
        for text in found.warnings:
            sys.stderr.write(f"osmia: warning: {text}\n")
        for missing in found.missing:
            self._session.note(f"{prog.name}: left out: {missing}")
        if found.left_out:
            self._session.note(f"{prog.name}: returns of {_some(found.left_out)} must never be probed: left out")
        if found.impossible:
            self._session.note(f"{prog.name}: {_some(found.impossible)} cannot take a breakpoint: left out")

    def _loading(self, spec: ObjectSpec, name: str, count: int) -> None:
        if uprobe.multi(self.pid):
            spec.progs[name].attach_type = consts.BPF_TRACE_UPROBE_MULTI
        else:
            note = "" if name in self.copies else uprobe.cost_note(count)
            self.copies[name] = count
            if note:
                sys.stderr.write(f"osmia: note: {note}\n")
        places = f"{USDT_MAP}_{name}"
        if places in spec.maps:
            self.sizes[places] = count

    def attach(self, prog: Prog, hook: Hook, live: LiveObject) -> list[Link]:
        """Attach one program everywhere."""
        name = prog.elf_name(hook)
        found = self.places(prog, hook)
        options: dict[str, Any] = {"places": live.maps.get(f"{USDT_MAP}_{name}")} if hook.kind == "usdt" else {}
        link = attach(live.progs[name], target=hook.target, pid=self.pid, found=found,
                      copies=live.copies.get(name, ()), **options)  # fmt: skip
        assert isinstance(link, uprobe.UserLink)
        prog.names = link.names
        files = {place.file: None for place in found.places}
        self._session.note(f"{prog.name}: attached to {len(found.places)} place{'s' * (len(found.places) != 1)}"
                           f" in {', '.join(files)} ({link.how})")  # fmt: skip
        if link.left_out:
            sys.stderr.write(f"osmia: warning: {_some(link.left_out)} cannot take a breakpoint and are left out\n")
        return [link]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _targets(hook: Hook) -> tuple[str, ...]:
    """What the probe names, or what the option says that it was given."""
    where = hook.params.get("where")
    if not isinstance(where, Option):
        return hook.targets
    text = str(where.value or "")
    if not text:
        raise UserError("it is not said where to attach", where=f"option {where.flags[0]}", fix="as in c:malloc")
    return tuple(text.split(","))


def notices(links: list[Link]) -> list[str]:
    """What went wrong with the attached places meanwhile."""
    return [text for link in links if isinstance(link, uprobe.UserLink) for text in link.notices()]
