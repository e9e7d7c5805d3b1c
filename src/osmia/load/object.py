# SPDX-License-Identifier: Apache-2.0
"""A spec becomes live: BTF, maps, programs, in that order.

Programs are loaded quietly: the verifier writes a log only when it has
rejected one, in a second attempt, because a log costs more than the
verification itself.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import bpf, btf_source, features
from osmia.load import btf, cookies
from osmia.load.assemble import assemble, idle
from osmia.load.bind import fill_jumps
from osmia.load.core import Core
from osmia.load.program import LiveProg
from osmia.load.rings import make_map
from osmia.obj import consts, meta

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Collection, Mapping

    from osmia.load.assemble import Assembled
    from osmia.load.map import LiveMap
    from osmia.load.program import ProgInfo
    from osmia.obj.spec import ObjectSpec, ProgSpec

#: What a program attaches to by type id: hook -> (prefix of the type's name, its BTF kind).
_BY_TYPE = {
    "tp_btf": ("btf_trace_", consts.BTF_KIND_TYPEDEF),
    "iter": ("bpf_iter_", consts.BTF_KIND_FUNC),
    "fentry": ("", consts.BTF_KIND_FUNC),
    "fexit": ("", consts.BTF_KIND_FUNC),
    "fmod_ret": ("", consts.BTF_KIND_FUNC),
    "lsm": ("bpf_lsm_", consts.BTF_KIND_FUNC),
}
_LOG_SIZES = (1 << 16, 1 << 20, 1 << 24)
_CLOSING_WORDS = 4  # BPF_LOG_STATS: what is wrong, and statistics


class LiveObject:
    """Maps and programs that the kernel holds for us.

    ``skipped`` has the optional programs that could not be loaded and why;
    ``notes`` what ``-v`` tells.  Closing it (or leaving its ``with`` block)
    closes all fds; links made from the programs keep those alive.
    """

    __slots__ = ("btf_fd", "copies", "maps", "name", "notes", "perf_rings", "progs", "skipped", "variables", "views")

    def __init__(self, name: str) -> None:
        self.name = name
        self.maps: dict[str, LiveMap] = {}
        self.progs: dict[str, LiveProg] = {}
        self.copies: dict[str, list[LiveProg]] = {}
        self.skipped: dict[str, UserError] = {}
        self.notes: list[str] = []
        #: Rings that are perf buffers here, by name: bytes for all CPUs together.
        self.perf_rings: dict[str, int] = {}
        #: Variables of data sections by name: section, offset, bytes; and the sections that are mapped.
        self.variables: dict[str, tuple[str, int, int]] = {}
        self.views: dict[str, mmap.mmap] = {}
        self.btf_fd = 0

    def __enter__(self) -> LiveObject:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def stats(self) -> dict[str, ProgInfo]:
        """What the kernel counts for each program (run times only while statistics are on)."""
        return {name: prog.info() for name, prog in self.progs.items()}

    def memory(self) -> int:
        """Bytes of kernel memory that the maps take."""
        return sum(live.memory() for live in self.maps.values())

    def close(self) -> None:
        """Close every fd.  May be called twice."""
        for prog in [*self.progs.values(), *[one for group in self.copies.values() for one in group]]:
            prog.close()
        for view in self.views.values():
            view.close()
        self.views = {}
        for live in self.maps.values():
            live.close()
        if self.btf_fd:
            os.close(self.btf_fd)
            self.btf_fd = 0


def load(
    spec: ObjectSpec,
    *,
    only: Collection[str] | None = None,
    optional: Collection[str] = (),
    max_entries: Mapping[str, int] | None = None,
    copies: Mapping[str, int] | None = None,
    pin_root: str = "/sys/fs/bpf",
) -> LiveObject:
    """Make ``spec`` live.

    ``only`` names the programs to load (default: all) and with them the maps
    that they use; ``optional`` those that may fail (they end up in
    ``skipped``); ``max_entries`` overrides sizes of maps by name (bytes for
    ring buffers); ``copies`` says of programs how many attachments they will
    have, for kernels without attach cookies.  Raises VerifierError, NotSupported, NotPermitted,
    NotFound; nothing stays behind then.
    """
    live = LiveObject(spec.name)
    try:
        wanted = _select(spec, only)
        stacked = b"stacks\t" in spec.meta
        records = meta.load(spec.meta) if stacked or b"tail\t" in spec.meta or b"when\t" in spec.meta else []
        instead = idle(spec, records)
        whole = {name: assemble(spec, prog, instead) for name, prog in wanted.items()}
        if stacked:
            from osmia.load import stacks

            max_entries = stacks.fit(spec, records, whole, max_entries or {})
        live.btf_fd = _load_btf(spec, live)
        used = {use[1] for program in whole.values() for use in program.uses}
        wanted_maps = [one for name, one in spec.maps.items() if only is None or name in used]
        # Data last: a constant may have to say what a ring is made of.
        for map_spec in sorted(wanted_maps, key=lambda one: one.contents is not None):
            size = max_entries.get(map_spec.name, 0) if max_entries else 0
            live.maps[map_spec.name] = make_map(map_spec, live, size, spec, pin_root)
            for variable, (offset, length) in map_spec.variables.items():
                live.variables[variable] = map_spec.name, offset, length
        core = Core(spec)
        for name, prog in wanted.items():
            loading = _Loading(spec, prog, whole[name], core, live)
            _add_program(live, loading, name in optional)
            if loading.number >= 0 and copies and name in live.progs:
                _add_copies(live, loading, copies.get(name, 1))
        fill_jumps(live, records)
    except BaseException:
        live.close()
        raise
    return live


def _add_program(live: LiveObject, loading: _Loading, optional: bool) -> None:
    prog = loading.prog
    try:
        live.progs[prog.name] = LiveProg(loading.load(), prog)
    except UserError as e:
        if not optional:
            raise
        live.skipped[prog.name] = e


def _add_copies(live: LiveObject, loading: _Loading, count: int) -> None:
    """One program per attachment, each with its number in it (:mod:`osmia.load.cookies`)."""
    from osmia.kernel.files import make_room

    make_room(3 * count)  # a program and what attaches it, which may be two
    group = live.copies[loading.prog.name] = [live.progs[loading.prog.name]]
    for number in range(1, count):
        loading.number = number
        group.append(LiveProg(loading.load(), loading.prog))


def _select(spec: ObjectSpec, only: Collection[str] | None) -> dict[str, ProgSpec]:
    if only is None:
        return spec.progs
    for name in only:
        if name not in spec.progs:
            raise NotFound(f"no program {name} in this object", where=spec.name)
    return {name: prog for name, prog in spec.progs.items() if name in only}


def _load_btf(spec: ObjectSpec, live: LiveObject) -> int:
    try:
        fd, note = btf.load(b"" if features.off("object_btf") else spec.btf)
    except PermissionError as e:
        raise _refused("load BTF", e, spec.name) from None
    if note:
        live.notes.append(note)
    return fd


def _refused(action: str, cause: OSError, where: str) -> UserError:
    from osmia.kernel import caps  # error paths only: keeps it out of a warm start

    return caps.refused(action, cause, where=where)


class _Loading:
    """One program on its way into the kernel."""

    __slots__ = ("attach_fd", "attach_id", "by_kernel", "core", "live", "number", "prog", "spec", "whole")

    def __init__(self, spec: ObjectSpec, prog: ProgSpec, whole: Assembled, core: Core, live: LiveObject) -> None:
        self.spec = spec
        self.prog = prog
        self.whole = whole
        self.core = core
        self.live = live
        self.by_kernel = bool(whole.core_relos)
        self.attach_fd = self.attach_id = 0
        self.number = 0 if cookies.asked_for(whole.insns) and not features.attach_cookies() else -1

    def load(self) -> int:
        if b"printk\t" in self.spec.meta:
            from osmia.load import printk

            printk.check(self.spec.meta, self.prog.name)
        if self.by_kernel and not self.core.kernel_does_it(self.whole, self.live.btf_fd):
            self._relocate()
        self.attach_fd, self.attach_id = _attach_target(self.prog)
        try:
            return self._quietly()
        finally:
            if self.attach_fd:
                os.close(self.attach_fd)

    def _relocate(self) -> None:
        self.live.notes.append(self.core.relocate(self.whole, self.prog))
        self.by_kernel = False

    def _quietly(self) -> int:
        try:
            return self._attempt(None)
        except OSError as e:
            if e.errno == errno.EPERM:
                raise _forbidden(self.prog) or _refused("load a tracing program", e, self.prog.name) from None
            too_old = e.errno == errno.E2BIG and self.by_kernel and features.has("core_relo") is False
        if too_old:
            self._relocate()
            return self._quietly()
        if self.by_kernel and self.core.renamed(self.whole, self.prog):
            self._relocate()
            return self._quietly()
        if self.whole.pointers and features.has("bpf_loop") is False:
            self.whole.drop_pointers()
            return self._quietly()
        return self._with_log()

    def _attempt(self, log: bytearray | None, level: int = 1) -> int:
        prog, whole, btf_fd = self.prog, self.whole, self.live.btf_fd
        insns = whole.with_maps({name: m.fd for name, m in self.live.maps.items()})
        if self.number >= 0:
            cookies.replace(insns, self.number)
        return bpf.prog_load(
            prog.type, insns, self.spec.license,
            name=prog.name, flags=consts.BPF_F_SLEEPABLE if prog.sleepable else 0, attach_type=_attach_type(prog),
            btf_fd=btf_fd, func_info=whole.func_bytes() if btf_fd else b"",
            line_info=whole.line_bytes() if btf_fd else b"", core_relos=whole.core_bytes() if self.by_kernel else b"",
            attach_btf_id=self.attach_id, attach_fd=self.attach_fd, log=log, log_level=level,
        )  # fmt: skip

    def _with_log(self) -> int:
        """Load once more, now with a log, a larger one if it does not fit; the fd if it works this time."""
        from osmia.kernel import caps
        from osmia.load import verifier

        for size in _LOG_SIZES:
            log = bytearray(size)
            fd, number = self._logged(log)
            if fd >= 0:
                return fd
            text = bytes(log).split(b"\0", 1)[0].decode("utf-8", "replace")
            # Since 6.4 a log that is too long loses its beginning, so its end tells whether the end is there.
            if number != errno.ENOSPC or verifier.is_complete(text):
                break
        if number == errno.ENOSPC:
            # Before, the end is what is lost, and with it the reason: ask for that alone, without the instructions.
            log = bytearray(_LOG_SIZES[0])
            fd, number = self._logged(log, _CLOSING_WORDS)
            text += "\n" + bytes(log).split(b"\0", 1)[0].decode("utf-8", "replace")
            if fd >= 0:
                return fd
        if self.prog.name in self.core.lacking:
            raise self.core.untyped(self.prog.name, self.core.lacking[self.prog.name])
        error = verifier.explain(
            text, number, name=self.prog.name, places=verifier.Places(self._lines()),
            field=lambda insn: self.core.field_at(self.whole, insn),
        )  # fmt: skip
        if verifier.read_by_helper(text) and caps.lockdown() == "confidentiality":
            error = verifier.locked_down(error, self.prog.name)
        error.prog = self.prog.name
        raise error

    def _logged(self, log: bytearray, level: int = 1) -> tuple[int, int]:
        try:
            return self._attempt(log, level), 0
        except OSError as e:
            return -1, e.errno or 0

    def _lines(self) -> list[tuple[int, str, int, str]]:
        if not self.spec.btf:
            return []
        text = self.core.local.string
        return [(off, text(file), line_col >> 10, text(line)) for off, file, line, line_col in self.whole.line_info]


def _attach_type(prog: ProgSpec) -> int:
    """The type to load with: the programs of many probes are plain ones where the kernel attaches them one by one."""
    feature = prog.hook.replace("uret", "u").replace("kret", "k") if prog.hook.endswith("_multi") else ""
    return 0 if feature and features.has(feature) is False else prog.attach_type


def _forbidden(prog: ProgSpec) -> UserError | None:
    """What forbids function tracing to everybody, if that is what an EPERM was about."""
    if prog.hook not in ("fentry", "fexit", "fmod_ret", "lsm"):
        return None
    from osmia.kernel import functions

    return functions.why_not_permitted(prog.hook, prog.name)


def _attach_target(prog: ProgSpec) -> tuple[int, int]:
    row = _BY_TYPE.get(prog.hook)
    if row is None or not prog.target:
        return 0, 0
    prefix, kind = row
    if not btf_source.has_kernel_btf():
        raise NotSupported(
            f"a {prog.hook} program needs a kernel with BTF", where=prog.name,
            fix="use a raw_tracepoint or tracepoint instead",
        )  # fmt: skip
    fd, id = btf_source.attach_target(prefix + prog.target, kind)
    if prog.hook in ("fentry", "fexit", "fmod_ret"):
        from osmia.kernel import functions

        functions.check_unique(prog.target, prog.hook, prog.name, bool(id))
    if not id:
        near = btf_source.near_names(prefix, prog.target)
        fix = f"did you mean {' or '.join(near)}?" if near else ""
        raise NotFound(f"this kernel has nothing called {prog.target} for {prog.hook} to attach to",
                       where=prog.name, fix=fix)  # fmt: skip
    return fd, id
