# SPDX-License-Identifier: Apache-2.0
"""One run of a tool: object, options, load, attach, show, detach.

Everything that the kernel holds for a run hangs on file descriptors of this
process, so nothing can stay behind, however the run ends.
"""

from __future__ import annotations

import os
import sys
import time

from osmia.cli.objects import spec_of
from osmia.cli.signals import Stop
from osmia.errors import NotFound, NotSupported, UserError
from osmia.events.loss import MAP as LOSS_MAP
from osmia.events.loss import Losses
from osmia.lang.codec import encode
from osmia.lang.maps import RINGBUF
from osmia.lang.options import Option
from osmia.lang.probes import Prog
from osmia.link import attach
from osmia.load.object import load
from osmia.obj import meta
from osmia.views.output import Writer, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from osmia.cli.command import Command
    from osmia.cli.common import Common
    from osmia.events.ring import Ring
    from osmia.lang.probes import Hook
    from osmia.lang.unit import Unit
    from osmia.link.base import Link
    from osmia.load.object import LiveObject
    from osmia.load.program import LiveProg
    from osmia.obj.spec import ObjectSpec


class Session:
    """A unit on its way through the kernel.

    ``links`` are what is attached; ``rings`` the readers by the
    ring's ELF name; ``out`` where rows go.
    """

    def __init__(self, unit: Unit, common: Common) -> None:
        self.unit = unit
        self.common = common
        self.stop = Stop()
        self.out: Writer = Writer(1)
        self.verbose = bool(common.verbose)
        self.records: list[tuple[str, ...]] = []
        self.live: LiveObject | None = None
        self.links: list[Link] = []
        self.rings: dict[str, Ring] = {}
        self.losses = Losses([], None)
        self.command: Command | None = None
        self._bound: list[Any] = []
        self._stats_fd = -1
        self.started = 0.0

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
            self._prepare_command()
        template = self.unit.template
        if template is not None and template.prepare is not None:
            template.prepare()
        spec = spec_of(self.unit, self.note)
        self.records = meta.load(spec.meta)
        self._set_options(spec)
        self._load(spec)
        self._bind()
        self._open_rings()
        if common.stats:
            self._count_costs()
        self._attach()
        self._ready()

    def note(self, text: str) -> None:
        """Something that ``-v`` tells."""
        if self.verbose:
            sys.stderr.write(f"osmia: {text}\n")

    def _prepare_command(self) -> None:
        from osmia.cli.command import Command
        from osmia.cli.common import shared_filter

        self.command = Command(self.common.cmd.value)
        only = shared_filter(self.unit, "pid")
        if only is not None and not only.given:
            only.set(self.command.pid)
        elif only is None:
            self.note("-c: this tool has no filter by process, so everything is traced while the command runs")

    def _find(self, module: str, variable: str) -> Any:
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
            option = self._find(record[2], record[3])
            if not isinstance(option, Option):
                continue
            for data in spec.maps.values():
                if data.contents is not None and record[1] in data.variables:
                    try:
                        data.set(record[1], encode(option.stored, option.value))
                    except (ValueError, TypeError) as err:
                        raise UserError(str(err), where=f"option {option.flags[0]}") from None

    def _progs(self) -> list[Prog]:
        return self.unit.progs

    def _load(self, spec: ObjectSpec) -> None:
        chosen, optional = self._choose(spec)
        sizes: dict[str, int] = {}
        if self.common.ring_size:
            sizes = {name: self.common.ring_size.value for name, m in spec.maps.items() if m.type == RINGBUF}
        while True:
            try:
                only = {prog.elf_name(hook) for prog, hook in chosen.items()}
                self.live = load(spec, only=only, optional=optional & only, max_entries=sizes or None)
                break
            except (NotSupported, NotFound) as err:
                if not self._fall_back(spec, chosen, err):
                    raise
        for text in self.live.notes:
            self.note(text)
        for name, reason in self.live.skipped.items():
            self.note(f"{name}: left out: {reason}")
        if self.verbose:
            for name, info in self.live.stats().items():
                walked = f", {info.verified_insns:,} looked at by the verifier" if info.verified_insns else ""
                self.note(f"{name}: loaded, {info.xlated_size // 8:,} instructions{walked}")
        self._chosen = chosen

    def _choose(self, spec: ObjectSpec) -> tuple[dict[Prog, Hook], set[str]]:
        """The first hook of each plan that is in the object and that this kernel seems to have."""
        chosen: dict[Prog, Hook] = {}
        optional: set[str] = set()
        for prog in self._progs():
            hooks = [hook for hook in prog.hooks if prog.elf_name(hook) in spec.progs]
            if len(prog.hooks) > 1:
                hooks = [hook for hook in hooks if offered(hook)] or hooks[-1:]
            if not hooks:
                if not prog.optional:
                    raise NotSupported(f"this kernel offers none of {_list(prog.hooks)}", where=prog.name)
                self.note(f"{prog.name}: left out: this kernel offers none of {_list(prog.hooks)}")
                continue
            chosen[prog] = hooks[0]
            if prog.optional:
                optional.add(prog.elf_name(hooks[0]))
        return chosen, optional

    def _fall_back(self, spec: ObjectSpec, chosen: dict[Prog, Hook], err: UserError) -> bool:
        """After a failed load: the next hook of the plan that ``err`` names; False if there is none."""
        for prog, hook in chosen.items():
            if prog.elf_name(hook) != err.where or hook is prog.hooks[-1]:
                continue
            following = prog.hooks[prog.hooks.index(hook) + 1]
            if prog.elf_name(following) in spec.progs:
                self.note(f"{prog.name}: {hook!r} does not do: {err}")
                chosen[prog] = following
                return True
        return False

    def _bind(self) -> None:
        assert self.live is not None
        for record in self.records:
            if record[0] == "map" and record[1] in self.live.maps:
                bound = self._find(record[2], record[3])
                bound.live = self.live.maps[record[1]]
                self._bound.append(bound)
        self.losses = Losses(self.records, self.live.maps.get(LOSS_MAP))

    def _open_rings(self) -> None:
        assert self.live is not None
        from osmia.events.ring import Ring

        for name, one in self.live.maps.items():
            if one.type == RINGBUF:
                self.rings[name] = Ring(one.fd, one.max_entries)

    def _count_costs(self) -> None:
        from osmia.kernel import bpf, caps

        try:
            self._stats_fd = bpf.enable_stats()
        except PermissionError as err:
            raise caps.refused("count BPF run time", err, where="--stats") from None
        except OSError as err:
            self.note(f"--stats: run times are not counted: {err.strerror}")

    def _attach(self) -> None:
        assert self.live is not None
        for prog, hook in self._chosen.items():
            name = prog.elf_name(hook)
            one = self.live.progs.get(name)
            if one is None or hook.kind == "syscall":
                continue
            self.links += self._attach_all(prog, hook, one)
        if self._chosen and not self.links and any(hook.kind != "syscall" for hook in self._chosen.values()):
            raise NotSupported("none of the optional probes exists on this kernel, so there is nothing to trace")

    def _attach_all(self, prog: Prog, hook: Hook, one: LiveProg) -> list[Link]:
        """Attach one program everywhere its hook says; missing places are an error only if all are missing."""
        links: list[Link] = []
        absent: NotFound | NotSupported | None = None
        for target in hook.targets:
            try:
                link = attach(one, target=target, **_parameters(hook))
            except (NotFound, NotSupported) as err:
                absent = absent or err
                self.note(f"{prog.name}: left out: {err}")
                continue
            links.append(link)
            self.note(f"{prog.name}: attached to {hook.kind}:{target} ({link.how})")
        if absent is not None and not links and not prog.optional:
            raise absent
        return links

    def _ready(self) -> None:
        self.started = time.monotonic()
        if self.common.duration:
            self.stop.deadline = self.started + self.common.duration.value
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

    def costs(self) -> str:
        """What ``--stats`` shows."""
        from osmia.cli.costs import report

        return report(self)

    def close(self) -> list[Link]:
        """Let everything go but the links, which are returned: closing them takes time (see osmia.link.detach)."""
        if self.command is not None:
            self.command.abandon()
        for bound in self._bound:
            bound.live = None
        for ring in self.rings.values():
            ring.close()
        if self.live is not None:
            self.live.close()
        if self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1
        self.stop.uninstall()
        self.out.close()
        return self.links


def _list(hooks: Iterable[Hook]) -> str:
    return ", ".join([repr(hook) for hook in hooks])


def _parameters(hook: Hook) -> dict[str, Any]:
    out = {}
    for name, value in hook.params.items():
        out[name] = value.value if isinstance(value, Option) else value
    return out


def offered(hook: Hook) -> bool:
    """Whether this kernel seems to have the hook: asked only where a plan has alternatives."""
    from osmia.kernel import btf_source, tracefs
    from osmia.obj import consts

    if hook.kind == "tracepoint":
        return any(tracefs.exists(*target.split(":")) for target in hook.targets)
    prefix = {"tp_btf": ("btf_trace_", consts.BTF_KIND_TYPEDEF), "iter": ("bpf_iter_", consts.BTF_KIND_FUNC)}
    if hook.kind in prefix:
        head, kind = prefix[hook.kind]
        return btf_source.has_kernel_btf() and bool(btf_source.type_id(head + hook.target, kind))
    return True


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
