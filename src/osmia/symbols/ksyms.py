# SPDX-License-Identifier: Apache-2.0
"""Names of addresses in the kernel, its modules, and loaded BPF programs.

``/proc/kallsyms`` is read when the first address is asked for, and only if
the cache has no table of this boot with these modules: the kernel needs some
40 ms to print it, and making arrays of it takes longer.  BPF programs and
trampolines come and go; the file is read for them when an address lies
outside of everything that stays.  Not for our own programs, which are in most
stacks that are taken: where they are the kernel tells at once.

A function reaches to the next symbol of any kind.  kallsyms has no sizes, and
the next symbol is what the kernel's own stack traces go by.  Where the kernel
hides its addresses there are no names, and ``problem`` says so.
"""

from __future__ import annotations

import time
from bisect import bisect_right

from osmia.errors import UserError
from osmia.kernel import cache, kallsyms, modules
from osmia.symbols import ksyms_table
from osmia.symbols.frame import KERNEL, UNKNOWN, Frame
from osmia.symbols.spans import Spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from osmia.symbols.ksyms_table import Table

_CACHE = "kernel-symbols"
_PAGE = 4096
_AGAIN_NS = 1_000_000_000  # an address that nobody knows does not cause more than one reading a second
_MOST_FRAMES = 1 << 17


class Ksyms:
    """Symbols of the running kernel.

    ``text`` and ``loaded`` stand in for the machine's kallsyms and modules
    (what another machine had, say); nothing is then cached.  ``programs``
    gives descriptors of loaded BPF programs with their names.
    """

    def __init__(
        self, text: bytes | None = None, loaded: dict[str, modules.Module] | None = None,
        programs: Callable[[], Iterable[tuple[int, str]]] | None = None,
    ) -> None:  # fmt: skip
        self._given = text
        self._loaded = loaded
        self._programs = programs
        self._table: Table | None = None
        self._made = Spans()
        self._made_names: list[str] = []
        self._read_at: int | None = None
        self._build_id: str | None = "" if text is not None else None
        self._frames: dict[int, Frame] = {}
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why there are no names of kernel functions, and what to do; empty if there are."""
        self._load()
        return self._problem

    @property
    def memory(self) -> int:
        """Memory taken."""
        kept = 400 * len(self._frames)
        return kept + self._made.memory + (self._table.memory if self._table is not None else 0)

    def snapshot(self) -> None:
        """Read now which BPF programs there are: names of those that are unloaded later are then still known."""
        self._load()
        self._look(forced=True)

    def frame(self, address: int, *, back: bool = False) -> Frame:
        """The function at ``address``.

        ``back``: the address is one that a call returns to, and the call,
        which may be a function's last instruction, is what is looked for.
        """
        key = -address if back else address
        found = self._frames.get(key)
        if found is None:
            if len(self._frames) > _MOST_FRAMES:
                self._frames.clear()
            found = self._frames[key] = self._find(address, 1 if back else 0)
        return found

    def stack(self, addresses: Sequence[int]) -> list[Frame]:
        """The frames of a stack, innermost first: the first address is where it was, the others are returned to."""
        return [self.frame(address, back=n > 0) for n, address in enumerate(addresses)]

    def forget_unknown(self) -> None:
        """Ask anew for addresses that had no name."""
        self._frames = {key: frame for key, frame in self._frames.items() if frame.name}

    def _find(self, address: int, back: int) -> Frame:
        self._load()
        if self._problem:
            return Frame(address, KERNEL)
        found = self._at(address - back)
        if found is None and self._ask():
            found = self._at(address - back)
        if found is None and self._look():
            found = self._at(address - back)
        if found is not None:
            name, first, module = found
            return self._made_frame(address, name, first, module)
        table = self._table
        assert table is not None
        return Frame(address, KERNEL if table.spans(address) else UNKNOWN)

    def _made_frame(self, address: int, name: str, first: int, module: str) -> Frame:
        assert self._table is not None
        if not module:
            if self._build_id is None:
                self._build_id = modules.kernel_build_id()
            return Frame(address, KERNEL, name, address - first, "", self._build_id, address - self._table.base)
        known = self._modules().get(module)
        if known is None or not known.base:
            return Frame(address, KERNEL, name, address - first, module)
        return Frame(address, KERNEL, name, address - first, module, known.build_id, address - known.base)

    def _at(self, address: int) -> tuple[str, int, str] | None:
        """``(name, start, module)``."""
        n = self._made.at(address)
        if n >= 0:
            name, _, module = self._made_names[self._made.names[n]].partition("\t")
            return name, self._made.firsts[n], module
        assert self._table is not None
        found = self._table.at(address)
        if found is None:
            return None
        name, _, module = found[0].decode("utf-8", "replace").partition("\t")
        return name, found[1], module

    # -- reading --------------------------------------------------------

    def _modules(self) -> dict[str, modules.Module]:
        if self._loaded is None:
            self._loaded = modules.loaded()
        return self._loaded

    def _key(self) -> bytes:
        parts = [f"{one.name} {one.base:x} {one.size} {one.build_id}" for one in self._modules().values()]
        return "\n".join([modules.boot(), *parts]).encode()

    def _load(self) -> None:
        if self._table is not None:
            return
        if self._given is None:
            self._table = ksyms_table.unpack(cache.opened(_CACHE), self._key())
            if self._table is not None:
                return
        self._build()

    def _build(self) -> None:
        try:
            text = self._given if self._given is not None else kallsyms.read()
        except UserError as e:
            self._table, self._problem = ksyms_table.EMPTY, str(e)
            return
        self._table = ksyms_table.parse(text, self._modules())
        self._take_made(text)
        if len(self._table.starts) < 3:
            self._problem = _hidden()
        elif self._given is None:
            cache.write(_CACHE, ksyms_table.pack(self._table, self._key()))

    def _ask(self) -> bool:
        """Have the kernel say where our own programs are, once; whether it has."""
        if self._programs is None:
            return False
        programs, self._programs = self._programs(), None
        from osmia.kernel import bpf_code

        told = [one for one in [bpf_code.named(fd, name) for fd, name in programs] if one is not None]
        rows = sorted([(start, f"{name}\tbpf".encode()) for start, _, name in told])
        self._keep(rows, {start: size for start, size, _ in told})
        return bool(told)

    def _look(self, *, forced: bool = False) -> bool:
        """Read what was made since; whether it was read."""
        now = time.monotonic_ns()
        if self._given is not None or self._problem:
            return False
        if self._read_at is not None and not forced and now - self._read_at < _AGAIN_NS:
            return False
        try:
            text = kallsyms.read()
        except UserError:
            return False
        before, self._loaded = self._key(), None
        if self._key() != before:
            self._table = ksyms_table.parse(text, self._modules())
        self._take_made(text)
        return True

    def _take_made(self, text: bytes) -> None:
        """BPF programs, trampolines and the like: the last lines of the file."""
        self._read_at = time.monotonic_ns()
        rows = ksyms_table.made(text)
        lengths: dict[int, int] = {}
        if self._given is None and any(name.endswith(b"\tbpf") for _, name in rows):
            from osmia.kernel import bpf_code

            lengths = bpf_code.lengths()
        self._keep(rows, lengths)

    def _keep(self, rows: list[tuple[int, bytes]], lengths: dict[int, int]) -> None:
        """Add to what was known: programs that are gone still have frames that want a name."""
        new: list[tuple[int, int, str]] = []
        for n, (start, raw) in enumerate(rows):
            following = rows[n + 1][0] if n + 1 < len(rows) else 1 << 64
            # Trampolines take a page at most (bpf_arch_alloc_trampoline); programs say how long they are.
            end = min(following, start + lengths.get(start, _PAGE))
            if start < end:
                new.append((start, end, raw.decode("utf-8", "replace")))
        taken = [start for start, _, _ in new]
        for at, until, number in zip(self._made.starts, self._made.ends, self._made.names, strict=True):
            n = bisect_right(taken, at)
            if (not n or new[n - 1][1] <= at) and (n == len(new) or new[n][0] >= until):
                new.insert(n, (at, until, self._made_names[number]))
                taken.insert(n, at)
        self._made, self._made_names = Spans(), []
        for start, end, name in new:
            self._made.append(start, end, start, len(self._made_names))
            self._made_names.append(name)
        self._frames.clear()


def _hidden() -> str:
    from osmia.kernel import proc

    if proc.sysctl("kernel.kptr_restrict") == "2":
        return "the kernel hides where its functions are, from everybody; sysctl kernel.kptr_restrict=1"
    return "the kernel hides where its functions are; run it as root (CAP_SYSLOG)"


