# SPDX-License-Identifier: Apache-2.0
"""Which kernel functions can be probed, and in plain words why one cannot.

The lists are long (60,000 functions) and the kernel takes a while to write
them, so they are read only for patterns and for explaining a refusal.
"""

from __future__ import annotations

from osmia.errors import NotFound, NotPermitted, NotSupported, UserError
from osmia.kernel import btf_source, cache, features, kallsyms, never, tracefs
from osmia.kernel.kallsyms import Symbol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.obj.btf import Btf

_BLACKLIST = "/sys/kernel/debug/kprobes/blacklist"
_INJECTABLE = "/sys/kernel/debug/error_injection/list"
_FUNC = 12  # BTF_KIND_FUNC
_ADDRESSES = "available_filter_functions_addrs"
_NAMES = "available_filter_functions"
#: Why a function is left out of a pattern: :mod:`osmia.kernel.never`.
_NEVER = "that must never be probed"
_repeated: frozenset[str] | None = None
#: What the kernel's own builders put after a name: only these two are the whole function.
_WHOLE = (".isra.", ".constprop.")
#: Bytes from a function's start within which its call into ftrace lies (after endbr64 or bti, and a frame record).
_PROLOGUE = 24
_TYPED = ("fentry", "fexit", "fmod_ret", "lsm")


class Choice:
    """What patterns have chosen: ``functions``, and how many were ``left`` out and why."""

    __slots__ = ("functions", "left")

    def __init__(self) -> None:
        self.functions: list[Symbol] = []
        self.left: dict[str, int] = {}

    def leave(self, why: str, n: int = 1) -> None:
        self.left[why] = self.left.get(why, 0) + n


# --- lists --------------------------------------------------------------------------------------------------------


def _list(file: str) -> list[bytes] | None:
    """The lines of a tracefs list; None where there is none or we may not read it."""
    try:
        with open(f"{tracefs.root()}/{file}", "rb", buffering=0) as stream:
            return stream.readall().splitlines()
    except (OSError, UserError):
        return None


def traceable() -> list[Symbol] | None:
    """Every function that ftrace can stop at, with the address of its call into ftrace since 6.5; None: no list."""
    lines = _list(_ADDRESSES)
    with_address = lines is not None
    if lines is None:
        lines = _list(_NAMES)
    if lines is None:
        return None
    out = []
    for line in lines:
        parts = line.split()
        address = int(parts.pop(0), 16) if with_address and parts else 0
        if parts and not parts[0].startswith(b"__ftrace_invalid_address__"):
            module = parts[1].strip(b"[]").decode("ascii", "replace") if len(parts) > 1 else ""
            out.append(Symbol(parts[0].decode("ascii", "replace"), address, module))
    return out


def forbidden() -> frozenset[str] | None:
    """Functions that kprobes must not touch (NOKPROBE_SYMBOL and the entry code); None: debugfs cannot be read."""
    try:
        with open(_BLACKLIST, encoding="ascii", errors="replace") as file:
            return frozenset(line.split()[1] for line in file if len(line.split()) > 1)
    except OSError:
        return None


def injectable() -> frozenset[str] | None:
    """Functions that may be made to fail (``ALLOW_ERROR_INJECTION``); None: debugfs cannot be read, or has no list."""
    try:
        with open(_INJECTABLE, encoding="ascii", errors="replace") as file:
            return frozenset(line.split()[0].partition("+")[0] for line in file if line.split())
    except OSError:
        return None


def repeated() -> frozenset[str]:
    """Names that several functions of this kernel share; kept in the cache, since finding them takes 0.1 s."""
    global _repeated
    if _repeated is None:
        entry = f"repeated-{btf_source.kernel_id()}"
        saved = cache.read(entry)
        if saved is None:
            names = sorted(kallsyms.repeated())
            cache.write(entry, "\n".join(names).encode())
            _repeated = frozenset(names)
        else:
            _repeated = frozenset(saved.decode("ascii", "replace").split("\n"))
    return _repeated


def has_types(name: str) -> bool:
    """Whether the running kernel's BTF has the function: the proof that its arguments are in their places."""
    module, _, plain = name.rpartition(":")
    if not module and btf_source.type_id(plain, _FUNC):
        return True
    return module_of(name) != ""


def check_unique(name: str, kind: str, where: str, found: bool) -> None:
    """Refuse a function that a program bound by type cannot be sure of: NotFound, NotSupported.

    ``found``: BTF has it.  Where several functions share the name, BTF may
    describe one of them and the kernel take the address of another.
    """
    if not found:
        raise why_not(name, kind, where)
    if name in repeated():
        code, _ = kallsyms.find(name)
        raise NotSupported(f"{len(code)} functions are called {name}, and {kind} cannot tell them apart", where=where,
                           fix=f'kprobe("{name}") probes them all')  # fmt: skip


def module_types(module: str, function: str) -> Btf | None:
    """BTF of ``module``, or where that is empty of the first loaded module that has ``function``."""
    found = module or module_of(function)
    return btf_source.module_btf(found) if found else None


def module_of(name: str) -> str:
    """The module whose BTF has function ``name``; empty where the kernel itself has it, or nobody."""
    wanted, _, plain = name.rpartition(":")
    if not wanted and btf_source.type_id(plain, _FUNC):
        return ""
    for module in [wanted] if wanted else btf_source.modules():
        btf = btf_source.module_btf(module)
        id = btf.find(plain, _FUNC) if btf else 0
        if btf and id >= btf.start_id:
            return module
    return ""


# --- choosing -----------------------------------------------------------------------------------------------------


def matching(patterns: Iterable[str], kind: str = "kprobe_multi", where: str = "") -> Choice:
    """The functions that any of the shell patterns matches, each once, with their addresses.

    What the compiler made of a function (``f.isra.0``, ``f.cold``) is left
    out unless the pattern has a dot.  NotFound where nothing matches.
    """
    patterns = list(patterns)
    choice = Choice()
    for pattern in patterns:
        refuse(pattern, where)
    listed = traceable()
    if listed is None:
        listed = kallsyms.code()
        banned = forbidden() or frozenset()
        fit = [one for one in _fitting(patterns, listed, choice) if one.name not in banned]
    else:
        fit = _with_addresses(_fitting(patterns, listed, choice), choice)
    choice.functions = fit
    if not fit:
        exact = [p for p in patterns if not any(c in p for c in "*?[")]
        if exact:
            raise why_not(exact[0], kind, where)
        if choice.left.get(_NEVER):
            raise NotSupported(f"the functions that {' or '.join(patterns)} matches must never be probed", where=where,
                               fix="docs/safety.md says why")  # fmt: skip
        near = suggest(patterns[0].strip("*"), [one.name for one in listed])
        raise NotFound(f"no function of this kernel matches {' or '.join(patterns)}", where=where, fix=near)
    return choice


def refuse(target: str, where: str = "") -> None:
    """NotSupported for a function that must never be probed (:mod:`osmia.kernel.never`), if ``target`` names one."""
    reason = never.why(target)
    if reason and not any(c in target for c in "*?["):
        raise NotSupported(f"{target} must never be probed: {reason}", where=where,
                           fix="probe a function that calls it")  # fmt: skip


def _fitting(patterns: list[str], listed: list[Symbol], choice: Choice) -> list[Symbol]:
    """The listed functions that match; the order is the list's."""
    from fnmatch import translate
    from re import compile as regex

    exact = {p for p in patterns if not any(c in p for c in "*?[")}
    globs = []
    for pattern in patterns:
        if pattern not in exact:
            module, _, plain = pattern.rpartition(":")
            globs.append((regex(translate(plain)).match, regex(translate(module or "*")).match, "." in plain))
    picked = []
    for one in listed:
        if one.name in exact or f"{one.module}:{one.name}" in exact:
            if not never.why(one.name):
                picked.append(one)
            continue
        fitting = [dotted for fits, inside, dotted in globs if fits(one.name) and inside(one.module)]
        if fitting and ("." not in one.name or any(fitting)):
            if never.why(one.name):
                choice.leave(_NEVER)
            else:
                picked.append(one)
        elif fitting:
            choice.leave("made by the compiler out of another")
    return picked


def _with_addresses(fit: list[Symbol], choice: Choice) -> list[Symbol]:
    """The same functions with the addresses of their first bytes.

    The kernel's list has none before 6.5, and since then those of the calls
    into ftrace, a few bytes into each function: cookies are found by the
    function's own.  A name is left out if some of its addresses are not
    traceable and the list does not say which.  Where the kernel hides
    addresses they stay 0.
    """
    calls: dict[tuple[str, str], list[int]] = {}
    for one in fit:
        calls.setdefault((one.name, one.module), []).append(one.address)
    if kallsyms.hidden():  # the kernel finds them by name, if there is one of that name
        return [Symbol(name, 0, module) for (name, module), places in calls.items() if len(places) == 1]
    found = kallsyms.addresses({name for name, _ in calls})
    out: dict[int, Symbol] = {}  # an address may have several names
    for (name, module), places in calls.items():
        symbols = [one for one in found.get(name, []) if one.module == module and one.address]
        if all(places):
            symbols = [one for one in symbols if any(0 <= p - one.address <= _PROLOGUE for p in places)]
        if not symbols:
            choice.leave("without a known address")
        elif len(symbols) != len(places):
            choice.leave("of the same name as another that cannot be traced")
        else:
            for one in symbols:
                out.setdefault(one.address, one)
    return list(out.values())


class Place:
    """Where single probes go: by name (``addresses`` empty), or at each of several addresses."""

    __slots__ = ("addresses", "name", "note", "offset")

    def __init__(self, name: str, offset: int = 0) -> None:
        self.name = name
        self.offset = offset
        self.addresses: list[int] = []
        self.note = ""


def place(target: str) -> Place:
    """Resolve ``function``, ``module:function`` or ``function+8`` for a kprobe.

    A name that several functions share stands for all of them (the kernel
    would take the first before 6.7, and refuse since).
    """
    refuse(target)
    name, plus, offset = target.partition("+")
    where = Place(name, _offset(target, offset) if plus else 0)
    if name in repeated():
        code, _ = kallsyms.find(name)
        if len(code) > 1 and all(one.address for one in code):
            where.addresses = [one.address for one in code]
            where.note = f"{len(code)} functions are called {name}: all of them are probed"
    return where


def _offset(target: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"{text!r} is not an offset in bytes", where=target, fix='write "function+8"') from None


def stand_in(name: str) -> str:
    """The one variant that is the whole function under another name, where BTF proves its arguments; else empty."""
    whole = [one for one in kallsyms.variants(name) if any(suffix in one.name for suffix in _WHOLE)]
    if len(whole) == 1 and has_types(name):
        return f"{whole[0].module}:{whole[0].name}" if whole[0].module else whole[0].name
    return ""


# --- explaining ---------------------------------------------------------------------------------------------------


def why_not(target: str, kind: str, where: str = "") -> UserError:
    """The error for a function that could not be probed: whether it exists, what forbids it, what to use instead."""
    name = target.partition("+")[0]
    plain = name.rpartition(":")[2]
    try:
        code, data = kallsyms.find(name)
    except UserError:
        return NotFound(f"the kernel knows no function {name} to probe", where=where)
    if not code:
        return _absent(name, plain, data, kind, where)
    alternative = _instead(plain)
    if plain in (forbidden() or ()):
        what = f"the kernel forbids probes in {plain}: kprobes themselves run through it (kprobe blacklist)"
        return NotSupported(what, where=where, fix=alternative or "probe a function that calls it")
    if kind in _TYPED and not has_types(name):
        what = f"the kernel's BTF does not have {plain}: its arguments may have been optimised away"
        return NotSupported(what, where=where, fix=f'kprobe("{plain}") may still work')
    listed = traceable()
    if kind not in ("kprobe", "kretprobe") and listed is not None and not any(one.name == plain for one in listed):
        what = f"{plain} cannot be traced on entry: it is marked notrace, or was built without ftrace"
        return NotSupported(what, where=where, fix=alternative or f'kprobe("{plain}") may still work')
    if kind in ("kprobe", "kretprobe") and features.has("kprobe") is False:
        what = "this kernel has no kprobes (CONFIG_KPROBES)"
        return NotSupported(what, where=where, fix=alternative or "use a tracepoint")
    return NotSupported(f"{plain} exists, but the kernel refuses a {kind} on it", where=where, fix=alternative)


def _absent(name: str, plain: str, data: list[Symbol], kind: str, where: str) -> UserError:
    if data:
        return NotFound(f"{plain} is a variable of the kernel, not a function", where=where)
    made = kallsyms.variants(name)
    if made:
        names = ", ".join(sorted({one.name for one in made}))
        proof = "the kernel's BTF does not say that its arguments stayed where they were"
        if any(".part." in one.name or ".cold" in one.name for one in made):
            proof = "the rest of it is inlined into its callers"
        fix = f'{kind}("{sorted(one.name for one in made)[0]}") without arguments traces that one'
        return NotFound(f"there is no {plain}: the compiler made {names} of it, and {proof}", where=where, fix=fix)
    from_table = has_types(name)
    what = f"this kernel has no function {plain}"
    if from_table:
        what = f"{plain} has no code of its own here: it is inlined into its callers"
    return NotFound(what, where=where, fix=_instead(plain) or suggest(plain))


def _instead(name: str) -> str:
    """A way to the same event that does not need the function; empty where none is known."""
    for prefix in ("__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_", "ksys_", "sys_", "SyS_"):
        if name.startswith(prefix):
            call = name.removeprefix(prefix)
            if _tracepoint("syscalls", f"sys_enter_{call}"):
                return f"use the tracepoint syscalls:sys_enter_{call}"
    try:
        for category in tracefs.categories():
            if name in tracefs.tracepoints(category):
                return f"use the tracepoint {category}:{name}"
    except UserError:
        pass
    return ""


def _tracepoint(category: str, event: str) -> bool:
    try:
        return tracefs.exists(category, event)
    except UserError:
        return False


def suggest(name: str, names: Iterable[str] | None = None) -> str:
    """"did you mean vfs_read?" or an empty string."""
    import difflib

    if names is None:
        try:
            names = {one.name for one in kallsyms.code() if "." not in one.name}
        except UserError:
            return ""
    likely = [one for one in names if abs(len(one) - len(name)) <= 4 and (one[:2] == name[:2] or name in one)]
    near = difflib.get_close_matches(name, likely, 3, 0.7)
    return f"did you mean {' or '.join(near)}?" if near else ""


def why_not_permitted(kind: str, where: str) -> NotPermitted | None:
    """For an EPERM although no capability is missing: what of this kernel forbids function tracing; None: unknown."""
    from osmia.kernel import caps

    if caps.missing("load a tracing program") or caps.lockdown() in ("integrity", "confidentiality"):
        return None
    if _list(_NAMES) is not None:
        return None
    return NotPermitted(f"this kernel lets nobody use {kind}: function tracing is locked (a security module's rule)",
                        where=where, fix="use a tracepoint or raw_tracepoint instead")  # fmt: skip
