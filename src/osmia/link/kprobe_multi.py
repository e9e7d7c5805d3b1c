# SPDX-License-Identifier: Apache-2.0
"""Many kernel functions with one link, in one call (fprobe, 5.18); one kprobe each where the kernel is older.

Single kprobes cost a file descriptor each and 50-100 ms each to close, so
the number is shown, and a child of ours waits for their end.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, features, functions
from osmia.kernel.door import address
from osmia.kernel.files import make_room
from osmia.link.base import Link, failed, refused
from osmia.link.kprobe import _MULTI_MISSED, FunctionLink, explained, numbers, open_one
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from osmia.kernel.functions import Choice
    from osmia.load.program import LiveProg

_RETURNS = 1  # BPF_F_KPROBE_MULTI_RETURN
_NAMED = 8  # patterns in the name of a link, at most


class MultiLink(FunctionLink):
    """``functions`` are the names of what is traced; ``attach_cookie()`` is the position in it."""

    __slots__ = ("functions", "modules")
    functions: list[str]
    modules: frozenset[str]

    def gone(self) -> str:
        """Modules that were unloaded with functions of theirs traced (since 6.3 the link keeps them)."""
        return " and ".join(sorted(one for one in self.modules if not os.path.isdir(f"/sys/module/{one}")))


def attach(
    prog: LiveProg, target: str, *, patterns: Iterable[str] = (), choice: Choice | None = None,
    copies: Sequence[LiveProg] = (),
) -> Link:  # fmt: skip
    """Attach to every function that one of ``patterns`` (default: the target) matches, or to those already chosen.

    NotFound where none does.  ``how`` of the link says how many there are.
    ``copies`` are further loadings of the program, one for each function, for
    kernels without attach cookies.
    """
    return attach_many(prog, [str(p) for p in patterns] or [target], "kprobe_multi", choice, copies)


def attach_many(
    prog: LiveProg, patterns: list[str], kind: str, choice: Choice | None = None, copies: Sequence[LiveProg] = ()
) -> MultiLink:
    """Entries or returns of all functions that match."""
    name = ",".join(patterns) if len(patterns) <= _NAMED else f"{patterns[0]} and {len(patterns) - 1} more"
    where = f"{prog.name} ({name})"
    if choice is None:
        choice = functions.matching(patterns, kind, where)
    if features.has("kprobe_multi") is not False:
        made = _one_link(prog, name, kind, choice)
        if made is not None:
            return made
    return _single(prog, name, kind, choice, copies)


def _one_link(prog: LiveProg, name: str, kind: str, choice: Choice) -> MultiLink | None:
    """One link for all; None where the kernel turns out to be unable to."""
    chosen = choice.functions
    places = array("Q", [one.address for one in chosen]).tobytes()
    cookies = array("Q", range(len(chosen))).tobytes()
    texts = b"".join([one.name.encode() + b"\0" for one in chosen])
    pointers = b""
    if not all(one.address for one in chosen):
        pointers, places = _pointers(texts), b""
    # union bpf_attr, link_create.kprobe_multi: flags, cnt, syms, addrs, cookies
    tail = struct.pack("<IIQQQ", _RETURNS if kind.startswith("kret") else 0, len(chosen), address(pointers),
                       address(places), address(cookies))  # fmt: skip
    try:
        fd = bpf.link_create(prog.fd, 0, consts.BPF_TRACE_KPROBE_MULTI, tail=tail)
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, bpf.ENOTSUPP):
            return None
        if e.errno in (errno.EPERM, errno.EACCES):
            raise refused(f"use {kind}", e, where=f"{prog.name} ({name})") from None
        if e.errno == errno.EINVAL:
            raise NotSupported(
                f"the kernel refuses one of these {len(chosen):,} functions, and does not say which",
                where=f"{prog.name} ({name})", fix="use a narrower pattern",
            ) from None  # fmt: skip
        raise failed(prog, name, e) from None
    how = f"{len(chosen):,} function{'s' * (len(chosen) != 1)} with one link{_left(choice)}"
    link = MultiLink(name, how, [fd], counted=[fd], missed_at=_MULTI_MISSED)
    link.functions = [one.name for one in chosen]
    link.modules = frozenset(one.module for one in chosen if one.module)
    return link


def _pointers(texts: bytes) -> bytes:
    """The address of each NUL-terminated text in ``texts``."""
    start, at = address(texts), 0
    out = array("Q")
    while at < len(texts):
        out.append(start + at)
        at = texts.index(b"\0", at) + 1
    return out.tobytes()


def _single(prog: LiveProg, name: str, kind: str, choice: Choice, copies: Sequence[LiveProg]) -> MultiLink:
    """A kprobe for each function; those that the kernel refuses are counted, and an error only if it is all of them.

    A cookie is the function's position among those chosen, so that a
    function's entry and return have the same, whatever is refused.
    """
    pmu, config = numbers(f"{prog.name} ({name})", kind)
    make_room(2 * len(choice.functions))
    events: list[int] = []
    links: list[int] = []
    use_copies = len(copies) == len(choice.functions) and not features.attach_cookies()
    refusal: OSError | None = None
    for number, one in enumerate(choice.functions):
        # By name where the address is hidden.
        text = b"" if one.address else one.name.encode() + b"\0"
        made, cause = _try(copies[number] if use_copies else prog, pmu, config, text, one.address, number)
        if cause is None:
            events.append(made[0])
            if made[1] >= 0:
                links.append(made[1])
            continue
        refusal = refusal or cause
        choice.leave("that the kernel refuses")
        if cause.errno in (errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE):
            FunctionLink(name, "", links + events).close()
            raise _too_many(prog, name, kind, cause, len(events), len(choice.functions))
    if not events:
        assert refusal is not None
        raise explained(prog, choice.functions[0].name, "kretprobe" if config else "kprobe", refusal)
    how = f"{len(events):,} single {'kretprobe' if config else 'kprobe'}{'s' * (len(events) != 1)}{_left(choice)}"
    link = MultiLink(name, how, links + events, counted=links, slow_close=True)
    link.functions = [one.name for one in choice.functions]
    link.modules = frozenset(one.module for one in choice.functions if one.module)
    return link


def _try(
    prog: LiveProg, pmu: int, config: int, text: bytes, place: int, cookie: int
) -> tuple[tuple[int, int], OSError | None]:
    try:
        return open_one(prog, pmu, config, text, place, 0, cookie)[:2], None
    except OSError as e:
        return (-1, -1), e


def _too_many(prog: LiveProg, name: str, kind: str, cause: OSError, made: int, wanted: int) -> UserError:
    if cause.errno in (errno.EMFILE, errno.ENFILE):
        what = f"{made:,} of {wanted:,} single probes fit in the limit of open files"
        fix = "raise it with ulimit -Hn, or use a narrower pattern"
        return UserError(what, where=f"{prog.name} ({name})", fix=fix)
    return refused(f"use {kind}", cause, where=f"{prog.name} ({name})")


def _left(choice: Choice) -> str:
    """", 3 left out (2 made by the compiler out of another, 1 …)" or an empty string."""
    if not choice.left:
        return ""
    parts = [f"{n:,} {why}" for why, n in choice.left.items()]
    return f", {sum(choice.left.values()):,} left out ({', '.join(parts)})"
