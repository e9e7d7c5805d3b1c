# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that attach where their command line says: programs for all kinds of places, and which are meant.

Shell patterns of functions and static probes stay what they are, since
attaching resolves them; regular expressions are resolved to names here,
tracepoints always.
"""

from __future__ import annotations

from osmia import attach_cookie, kprobe_multi, option, tracepoint, uprobe, usdt
from osmia.errors import NotFound, OptionError
from osmia.lang.filters import wanted
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from typing import Any

    from osmia.lang.probes import Prog


#: What a place is called, for the help of an option.
PLACES = "FUNCTION, FILE:FUNCTION, t:CATEGORY:EVENT or u:FILE:PROBE; patterns as in the shell"


def everywhere(body: Callable[..., None], *, numbered: bool = False) -> tuple[dict[str, Any], dict[str, Prog]]:
    """Programs that run ``body()`` at a place, one for each kind of place: where they attach, and they themselves.

    ``numbered``: the body is given the place's number, of calls that pass the filters.

    The tool puts both among its globals; :func:`aim` chooses the one that is needed, and the others are not loaded.
    """
    at = {kind: option(kind, type=str) for kind in (FUNCTION, USER, TRACEPOINT, STATIC)}

    @kprobe_multi(at[FUNCTION], optional=True)
    def kernel_function():
        if not numbered:
            body()
        elif wanted():
            body(attach_cookie())

    @uprobe(at[USER], optional=True)
    def user_function():
        if not numbered:
            body()
        elif wanted():
            body(attach_cookie())

    @tracepoint(at[TRACEPOINT], optional=True)
    def static_tracepoint():
        if not numbered:
            body()
        elif wanted():
            body(attach_cookie())

    @usdt(at[STATIC], optional=True)
    def static_probe():
        if not numbered:
            body()
        elif wanted():
            body(attach_cookie())

    return at, dict(zip(at, (kernel_function, user_function, static_tracepoint, static_probe), strict=True))


def aim(
    specs: Sequence[Spec], at: Mapping[str, Any], programs: Mapping[str, Prog | tuple[Prog, ...]], *,
    regular: bool = False, pid: int = 0,
) -> None:  # fmt: skip
    """Put into the options ``at``, by kind of place, where ``specs`` say; the others are emptied.

    Of ``programs``, by kind, those are to be there that were asked for.
    """
    for kind, where in at.items():
        found = [one for spec in specs if spec.kind == kind for one in places(spec, regular=regular, pid=pid)]
        where.value = ",".join(dict.fromkeys(found))
        those = programs[kind]
        for program in those if isinstance(those, tuple) else (those,):
            program.optional = not found


def refuse_other(specs: Sequence[Spec], kinds: Container[str], tool: str) -> None:
    """OptionError for a specification of another kind than the tool takes."""
    for spec in specs:
        if spec.kind not in kinds:
            raise OptionError(f"{spec.text} is a {spec.kind}, and {tool} needs a function", where=tool,
                              fix="as in vfs_read or c:malloc")  # fmt: skip


def shown(prog: Prog, place: int) -> str:
    """The function number ``place`` of ``prog`` as it is written on a command line: ``vfs_read``, ``c:malloc``."""
    name = prog.names[place]
    return f"{prog.targets[place].rpartition(':')[0]}:{name}" if prog.targets else name


def places(spec: Spec, *, regular: bool = False, pid: int = 0) -> list[str]:
    """What hooks take for ``spec``: names of functions, ``FILE:FUNCTION``, ``CATEGORY:EVENT``, ``FILE:PROVIDER:NAME``.

    ``regular``: the pattern is a regular expression that a name has to match
    from its beginning.  Files are those that process ``pid`` sees.  NotFound where nothing
    matches.
    """
    if spec.kind == TRACEPOINT:
        return _chosen(spec, _tracepoints(), regular)
    if not regular:
        return [spec.place]
    if spec.kind == FUNCTION:
        return _chosen(spec, _functions(), True)
    return [f"{spec.file}:{name}" for name in _chosen(spec, _of_file(spec, pid), True)]


def _chosen(spec: Spec, names: Iterable[str], regular: bool) -> list[str]:
    pattern = f"{spec.file}:{spec.name}" if spec.kind == TRACEPOINT else spec.name
    fits = _fits(pattern, regular)
    found = list(dict.fromkeys([name for name in names if fits(name)]))
    if not found:
        raise NotFound(f"there is no {spec.kind} that {pattern} matches", where=spec.text, fix=_near(spec))
    return found


def _fits(pattern: str, regular: bool) -> Callable[[str], object]:
    import re
    from fnmatch import translate

    try:
        return re.compile(pattern if regular else translate(pattern)).match
    except re.error as err:
        raise OptionError(f"{pattern!r} is not a regular expression: {err}") from None


def _near(spec: Spec) -> str:
    if spec.kind != TRACEPOINT:
        return ""
    from osmia.kernel import tracefs

    return tracefs.suggest(spec.file, spec.name)


def _tracepoints() -> list[str]:
    from osmia.kernel import tracefs

    return [f"{category}:{name}" for category in tracefs.categories() for name in tracefs.tracepoints(category)]


def _functions() -> list[str]:
    from osmia.kernel import functions, kallsyms

    listed = functions.traceable()
    return [one.name for one in (kallsyms.code() if listed is None else listed)]


def _of_file(spec: Spec, pid: int) -> list[str]:
    from osmia.symbols import elf_syms, libs, usdt
    from osmia.symbols.image import Image

    binary = libs.find(spec.file, pid)
    with Image(binary.path, binary.name) as image:
        if spec.kind == STATIC:
            return [site.full_name for site in usdt.sites(image)]
        return [one.name for one in elf_syms.Symbols(image).matching("*")]
