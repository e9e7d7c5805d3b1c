# SPDX-License-Identifier: Apache-2.0
"""One run of a tool: object, options, load, attach, show, detach.

Everything that the kernel holds for a run hangs on file descriptors of this
process, so nothing can stay behind, however the run ends.
"""

from __future__ import annotations

import os
import sys
import time

from osmia.cli import plans
from osmia.cli.ahead import Ahead
from osmia.cli.objects import settle, spec_of
from osmia.cli.signals import Stop
from osmia.errors import NotFound, NotPermitted, NotSupported, UserError, VerifierError
from osmia.events.loss import MAP as LOSS_MAP
from osmia.events.loss import Losses
from osmia.kernel import proc
from osmia.lang import maps
from osmia.lang.codec import encode
from osmia.lang.hist import Hist
from osmia.lang.maps import RINGBUF, Map, MapBase
from osmia.lang.options import Option
from osmia.lang.probes import Prog
from osmia.obj import meta
from osmia.views.output import Writer, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.command import Command
    from osmia.cli.common import Common
    from osmia.cli.costs import Meter
    from osmia.cli.placed import Placed
    from osmia.cli.safety import Watch
    from osmia.cli.user import UserProbes
    from osmia.events.loss import Slot
    from osmia.events.ring import Ring
    from osmia.lang.probes import Hook
    from osmia.lang.templates import BeforeAttach
    from osmia.lang.unit import Unit
    from osmia.link.base import Link
    from osmia.load.object import LiveObject
    from osmia.load.program import LiveProg
    from osmia.obj.spec import ObjectSpec


_USER = ("uprobe", "uretprobe", "usdt")
#: Breakpoints of one link from which on it pays to take them off before the end.
_MANY_PLACES = 200


class Session:
    """A unit on its way through the kernel.

    ``chosen`` are the programs, each with the hook of its plan that was taken;
    ``links`` are what is attached; ``rings`` the readers by the
    ring's ELF name; ``spec`` the object; ``out`` where rows go; ``status`` what the run ends with
    if nothing fails.
    """

    #: Whether the contents of maps are not live but those of a recording.
    replayed = False
    spec: ObjectSpec
    _ahead: Ahead

    def __init__(self, unit: Unit, common: Common) -> None:
        self.unit = unit
        self.common = common
        self.stop = Stop()
        self.out: Writer = Writer(1)
        self.verbose = bool(common.verbose)
        self.records: list[tuple[str, ...]] = []
        self.live: LiveObject | None = None
        self.links: list[Link] = []
        #: Programs that are attached somewhere.
        self.running: list[Prog] = []
        self.rings: dict[str, Ring] = {}
        self.losses = Losses([], None)
        self.command: Command | None = None
        self.user: UserProbes | None = None
        self._bound: list[Any] = []
        self.meter: Meter | None = None
        self.watch: Watch | None = None
        self.placed: Placed | None = None
        self._stats_fd = -1
        self.chosen: dict[Prog, Hook] = {}
        self.started = 0.0
        self.status = 0

    def programs(self) -> list[tuple[int, str]]:
        """Descriptor and name of each program that is loaded."""
        if self.live is None:
            return []
        copies = [one for more in self.live.copies.values() for one in more]
        return [(one.fd, one.name) for one in [*self.live.progs.values(), *copies]]

    # -- start -----------------------------------------------------------

    def start(self) -> None:
        """Up to and including attaching.  Raises UserErrors; :meth:`close` cleans up whatever was reached."""
        common = self.common
        if common.output:
            self.out = open_output(common.output.value)
        if common.btf:
            from osmia.kernel import btf_source

            btf_source.use(os.path.abspath(common.btf.value))
        _check_rights()
        self.stop.install(self.out.fd)
        if common.cmd:
            from osmia.cli.command import Command

            self.command = Command(common.cmd.value)
        self.unit.prepare()
        template = self.unit.template
        if template is not None and template.declares is not None:
            self.unit.declare(*template.declares())
        self._aim()
        self._take(spec_of(self.unit, self.note))
        if self.command is not None:
            from osmia.cli import scope

            scope.without_descent(self)
        self._set_options(self.spec)
        if template is not None and template.careful:
            from osmia.cli.placed import Placed

            self.placed = Placed(self)
        metered = bool(common.stats) or common.max_overhead.given
        if metered or self.placed is not None:
            from osmia.cli import costs

            self._stats_fd, uncounted = costs.switch_on("--max-overhead" if common.max_overhead.given else "")
        self._ahead = Ahead(self.unit)
        try:
            self._load()
        finally:
            self._ahead.join()
        while True:
            self._bind()
            self._open_rings()
            self._fill()
            if self._attach():
                break
            self._unload()
            self._load()
        if metered:
            self.meter = costs.Meter(self, uncounted, common.max_overhead.value or 0.0)
        if self.placed is not None:
            from osmia.cli.safety import Watch

            fd, self._stats_fd = (-1, self._stats_fd) if metered else (self._stats_fd, -1)
            self.watch = Watch(self, self.placed, fd, uncounted)
        self._ready()

    def host(self) -> str:
        """The name of the traced machine."""
        return os.uname().nodename

    def note(self, text: str) -> None:
        """Something that ``-v`` tells."""
        if self.verbose:
            sys.stderr.write(f"osmia: {text}\n")

    def _aim(self) -> None:
        """Set the constants that nobody types; in the initial PID namespace, without -c and --container, none."""
        for module, variable in (("osmia.lang.pidns", "namespace"), ("osmia.lang.membership", "ancestor")):
            if module in sys.modules:
                vars(sys.modules[module])[variable].value = 0
        if proc.foreign_pid_namespace() or self.command is not None or self.common.container.given:
            from osmia.cli import scope

            scope.aim(self)

    def find(self, module: str, variable: str) -> Any:
        """The author's object that the object's records call by module and variable."""
        space = self.unit.namespace
        if space.get("__name__") != module and module in sys.modules:
            space = vars(sys.modules[module])
        try:
            return space[variable]
        except KeyError:
            raise NotFound(f"{module}.{variable} is not there any more", fix="compile it anew") from None

    def _set_options(self, spec: ObjectSpec) -> None:
        for record in self.records:
            if record[0] != "option":
                continue
            option = self.find(record[2], record[3])
            if not isinstance(option, Option):
                continue
            for data in spec.maps.values():
                if data.contents is not None and record[1] in data.variables:
                    try:
                        data.set(record[1], encode(option.stored, option.value))
                    except (ValueError, TypeError) as err:
                        raise UserError(str(err), where=f"option {option.flags[0]}") from None

    def _take(self, spec: ObjectSpec) -> None:
        """``spec`` is the object of this run."""
        self.spec = spec
        self.records = meta.load(spec.meta)

    def _progs(self) -> list[Prog]:
        return [prog for prog in self.unit.progs if plans.wanted(prog)]

    def _load(self) -> None:
        if self.user is None and any(hook.kind in _USER for prog in self._progs() for hook in prog.hooks):
            from osmia.cli.user import UserProbes

            self.user = UserProbes(self)
        if not self.chosen:
            self.chosen = plans.choose(self._progs(), self.spec, self.records, self.note)
        from osmia.load.object import load

        chosen = self.chosen
        while True:
            try:
                copies, spec = self._place(), self.spec
                sizes = self._sizes(spec)
                only = {prog.elf_name(hook) for prog, hook in chosen.items()}
                optional = plans.may_fail(chosen, spec)
                self.live = load(spec, only=only, optional=optional, max_entries=sizes or None, copies=copies or None)
                break
            except (NotSupported, NotFound, NotPermitted, VerifierError) as err:
                if not self._fall_back(err):
                    raise
        for text in self.live.notes:
            self.note(text)
        for name, reason in self.live.skipped.items():
            self.note(f"{name}: left out: {reason}")
        if self.verbose:
            for name, info in self.live.stats().items():
                walked = f", {info.verified_insns:,} looked at by the verifier" if info.verified_insns else ""
                self.note(f"{name}: loaded, {info.xlated_size // 8:,} instructions{walked}")

    def _place(self) -> dict[str, int]:
        """Find out where the programs will attach; how often those are to be loaded that need copies."""
        copies: dict[str, int] = {}
        if self.user is not None:
            self.user.prepare(self.chosen)
            copies |= self.user.copies
        if self.placed is not None:
            self.placed.find(self.chosen)
            copies |= self.placed.copies
            template = self.unit.template
            if template is not None and template.placed is not None:
                template.placed()
            from osmia.cli import safety

            safety.check_number(self, self.placed)
        return copies

    def _sizes(self, spec: ObjectSpec) -> dict[str, int]:
        """Entries of maps whose size the tool or the user has set since they were compiled, by name."""
        out: dict[str, int] = {}
        for record in self.records:
            if record[0] != "map" or record[1] not in spec.maps:
                continue
            item = self.find(record[2], record[3])
            if hasattr(item, "sizes"):
                out |= item.sizes(record[1])
            elif isinstance(item, (Map, maps.Ring, Hist)) and item.max_entries != spec.maps[record[1]].max_entries:
                out[record[1]] = item.max_entries
        if self.common.ring_size:
            out |= {name: self.common.ring_size.value for name, m in spec.maps.items() if m.type == RINGBUF}
        return out | (self.user.sizes if self.user is not None else {})

    def _fall_back(self, err: UserError) -> bool:
        """After a failed load: the next hook of the plan that ``err`` names; False if there is none."""
        for prog, hook in self.chosen.items():
            if prog.elf_name(hook) in (err.where, getattr(err, "prog", "")):
                before = self.spec
                # An optional program may fail once the whole object has shown that its plan has no other hook.
                return self.next_hook(prog, err) or (prog.optional and self.spec is not before)
        return False

    def next_hook(self, prog: Prog, err: UserError) -> bool:
        """After ``err``: take the next hook of ``prog``'s plan; False if there is none."""
        if self.chosen[prog] is not prog.hooks[-1] and plans.narrow(self.spec):
            self._ahead.join()  # the compiler forks, and must not do so in the middle of an import
            self._take(spec_of(self.unit, self.note, whole=True))
            self._set_options(self.spec)
        return plans.fall_back(self.chosen, prog, self.spec, err, self.note)

    def _bind(self) -> None:
        from osmia.load.bind import bind

        assert self.live is not None
        self._bound = bind(self.live, self.records, self.find)
        self.losses = Losses(self.records, self.live.maps.get(LOSS_MAP), self._missed)

    def _open_rings(self) -> None:
        assert self.live is not None
        from osmia.events.transport import open_readers

        self.rings = open_readers(self.live, self.records, self._bound)
        if any(hasattr(reader, "finish") for reader in self.rings.values()):
            self.stop.watch_dumps()

    def _fill(self) -> None:
        """What the module put into maps, and what it has to say before anything is attached."""
        from osmia.load.bind import fill

        fill(self._bound)
        for setup in self.unit.setups:
            _run(setup)

    def _attach(self) -> bool:
        """Attach everything; False if a hook could not be had, and its plan's next one is to be loaded instead."""
        assert self.live is not None
        for prog, hook in self.chosen.items():
            name = prog.elf_name(hook)
            one = self.live.progs.get(name)
            if one is None or hook.kind == "syscall" or prog.tail:
                continue
            try:
                links = self._attach_all(prog, hook, one)
            except (NotFound, NotSupported, NotPermitted) as err:
                if self.next_hook(prog, err):
                    return False
                raise
            self.links += links
            self.running += [prog] * bool(links)
        if self.chosen and not self.links and any(hook.kind != "syscall" for hook in self.chosen.values()):
            raise NotSupported("none of the optional probes exists on this kernel, so there is nothing to trace")
        return True

    def _attach_all(self, prog: Prog, hook: Hook, one: LiveProg) -> list[Link]:
        """Attach one program everywhere its hook says; missing places are an error only if all are missing."""
        if self.user is not None and hook.kind in _USER:
            assert self.live is not None
            return self.user.attach(prog, hook, self.live)
        from osmia.link import attach

        links: list[Link] = []
        absent: NotFound | NotSupported | None = None
        where = hook.params.get("where")
        targets = hook.targets if where is None else plans.told(where)
        more = _parameters(hook)
        if self.placed is not None:
            more |= self.placed.parameters(prog, hook)
        copies = self.live.copies.get(prog.elf_name(hook), ()) if self.live is not None else ()
        for number, target in enumerate(targets):
            if hook.kind == "tracepoint" and number:
                more["cookie"] = number
            try:
                link = attach(copies[number] if len(copies) == len(targets) else one, target=target, **more)
            except (NotFound, NotSupported) as err:
                absent = absent or err
                self.note(f"{prog.name}: left out: {err}")
                continue
            links.append(link)
            self.note(f"{prog.name}: attached to {hook.kind}:{target} ({link.how})")
        if absent is not None and not links and not prog.optional:
            raise absent
        return links

    def _unload(self) -> None:
        """Back to before the load."""
        for link in self.links:
            link.close()
        self.links, self.running = [], []
        for bound in self._bound:
            bound.live = None
        self._bound = []
        for ring in self.rings.values():
            ring.close()
        self.rings = {}
        if self.live is not None:
            self.live.close()
            self.live = None

    def _missed(self) -> list[tuple[Slot, int]]:
        from osmia.events import missed

        return missed.read(self.links, self.live.progs if self.live is not None else {})

    def _ready(self) -> None:
        settle()
        self.started = time.monotonic()
        common = self.common
        length = common.duration.value or common.length.value
        if common.cmd.given and not (common.duration.given or common.length.given):
            length = 0.0  # what the tool does by itself; a command says how long it takes
        if length:
            self.stop.deadline = self.started + length
        if self.command is not None:
            self.stop.child = self.command.pid
            self.command.start()
        ready = os.environ.get("OSMIA_READY_FD", "")
        if ready.isdecimal():
            try:
                os.write(int(ready), b"x")
                os.close(int(ready))
            except OSError as err:
                raise UserError(f"cannot write: {err.strerror}", where=f"OSMIA_READY_FD={ready}") from None

    # -- the end ---------------------------------------------------------

    def freeze(self) -> None:
        """Nothing more is to be counted: take breakpoints off where they are at very many places of this process, too.

        All functions of libc, say: they slow down what is left to do by more than it takes to remove them.  Those of
        other programs go when this process has gone (see osmia.link.detach).
        """
        many = [link for link in self.links
                if len(getattr(link, "places", ())) > _MANY_PLACES and len(link.fds) == 1]  # fmt: skip
        if many:
            from osmia.kernel.proc import mapped_inodes

            own = mapped_inodes()
            for link in many:
                if not own.isdisjoint([place.inode[1] for place in link.places]):  # type: ignore[attr-defined]
                    link.close()

    def close(self) -> list[Link]:
        """Let everything go but the links, which are returned: closing them takes time (see osmia.link.detach)."""
        settle()
        if self.command is not None:
            self.command.abandon()
        for bound in self._bound:
            bound.live = None
        for ring in self.rings.values():
            ring.close()
        if self.live is not None:
            self.live.close()
        if self.watch is not None:
            self.watch.close()
        if self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1
        self.stop.uninstall()
        self.out.close()
        return self.links


def _parameters(hook: Hook) -> dict[str, Any]:
    out = {}
    for name, value in hook.params.items():
        if isinstance(value, MapBase):  # what an iterator walks
            if value.live is None:
                raise NotFound(f"{value.name or 'the map'} is used by no program, so there is nothing to walk")
            out["map_fd"] = value.live.fd  # type: ignore[attr-defined]
        elif name == "patterns":
            out[name] = plans.told(value)
        elif name != "where":
            out[name] = value.value if isinstance(value, Option) else value
    return out


def _run(setup: BeforeAttach) -> None:
    try:
        setup()
    except UserError:
        raise
    except Exception as err:
        if os.environ.get("OSMIA_DEBUG") == "1":
            raise
        raise _blamed(setup, err) from None


def _blamed(setup: BeforeAttach, err: Exception) -> UserError:
    """The author's function failed: where in it, and how."""
    code, at, line = setup.function.__code__, err.__traceback__, 0
    while at is not None:
        line = at.tb_lineno if at.tb_frame.f_code is code else line
        at = at.tb_next
    return UserError(f"{setup.function.__name__}() failed: {type(err).__name__}: {err}",
                     where=f"{code.co_filename}:{line}", fix="OSMIA_DEBUG=1 shows the traceback")  # fmt: skip


def _check_rights() -> None:
    """A user without any of the privileges is told so at once, before anything is compiled."""
    if not os.geteuid():
        return
    from osmia.errors import NotPermitted
    from osmia.kernel import caps

    lacking = caps.missing("load a tracing program")
    if lacking:
        what = f"tracing needs privileges: missing {' and '.join(lacking)}"
        raise NotPermitted(what, fix="run it as root (sudo osmia ...)")
