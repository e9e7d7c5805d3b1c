# SPDX-License-Identifier: Apache-2.0
"""What a user probe's target means on this machine: which files, which offsets, which arguments."""

from __future__ import annotations

import os

from osmia.errors import NotFound, NotSupported, UserError
from osmia.symbols import elf_syms, libs, never, steps, usdt, usdt_args
from osmia.symbols.elf_syms import Symbols
from osmia.symbols.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.symbols.usdt import Site

#: Hooks of user programs.
KINDS = ("uprobe", "uretprobe", "usdt")
#: As the file of a static probe: every file that the process has mapped.
ANY_FILE = "*"


class Place:
    """One place to attach to: ``path`` opens the file, ``offset`` and ``semaphore`` (0: none) are file offsets.

    ``target`` is what was asked for when it was found.  ``record`` says where
    a static probe's arguments are, packed for the program; empty for functions.
    """

    __slots__ = ("file", "inode", "name", "offset", "path", "record", "semaphore", "target")

    def __init__(self, binary: libs.Binary, inode: tuple[int, int], offset: int, name: str) -> None:
        self.path = binary.path
        self.file = binary.name
        self.inode = inode
        self.offset = offset
        self.name = name
        self.semaphore = 0
        self.target = ""
        self.record = b""

    def __repr__(self) -> str:
        return f"<Place {self.name} at {self.file}:{self.offset:#x}>"


class Found:
    """The places of one program; ``warnings`` are for the user's eyes, ``missing`` is why a target has none.

    ``left_out`` are functions that a pattern matches and that must not be probed,
    ``impossible`` those that cannot be.
    """

    __slots__ = ("impossible", "kind", "left_out", "missing", "places", "warnings")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.places: list[Place] = []
        self.warnings: list[str] = []
        self.left_out: list[str] = []
        self.impossible: list[str] = []
        self.missing: list[UserError] = []


def find(kind: str, targets: Iterable[str], *, pid: int = 0, program: str = "", arguments: int = 0) -> Found:
    """Every place of ``targets`` (``FILE:NAME``), each once.

    ``pid``: as that process sees files; ``program``: what an empty file name
    means if not that process's program; ``arguments``: how many of a static
    probe's arguments are wanted.  Raises the first error if no target has
    any place.
    """
    found = Found(kind)
    seen: set[tuple[tuple[int, int], int]] = set()
    for target in targets:
        try:
            made = _of_target(found, kind, target, pid, program, arguments)
        except (NotFound, NotSupported) as err:
            found.missing.append(err)
            continue
        for place in made:
            if (place.inode, place.offset) not in seen:
                place.target = target
                seen.add((place.inode, place.offset))
                found.places.append(place)
    if not found.places:
        raise found.missing[0] if found.missing else NotFound("there is nothing to attach to")
    return found


def _of_target(found: Found, kind: str, target: str, pid: int, program: str, arguments: int) -> list[Place]:
    file, colon, name = target.partition(":")
    if not colon or not name:
        raise UserError(f"{target!r} does not say where to attach", fix='write FILE:NAME, as in "c:malloc"')
    if kind == "usdt":
        return _static(found, file or program, name, pid, arguments)
    binary = libs.find(file or program, pid)
    with Image(binary.path, binary.name) as image:
        if kind == "uretprobe":
            _refuse_go(image)
        symbols = Symbols(image)
        places = []
        for offset, function, warning in elf_syms.find(image, symbols, name):
            if kind == "uretprobe" and never.why(function):
                _leave_out(found, binary, function, name)
                continue
            if elf_syms.is_pattern(name) and not steps.possible(bytes(image.data[offset : offset + steps.LENGTH])):
                found.impossible.append(function)
                continue
            places.append(Place(binary, image.inode, offset, function))
            if warning:
                found.warnings.append(f"{binary.name}: {warning}")
        return places


def _leave_out(found: Found, binary: libs.Binary, function: str, asked: str) -> None:
    """A function whose return must not be probed: refused by name, left out of a pattern."""
    if function.partition("@")[0] == asked.partition("@")[0]:
        raise NotSupported(f"the return of {function} must never be probed: {never.why(function)}",
                           where=f"{binary.name}:{asked}", fix="probe its entry, or what calls it")
    found.left_out.append(function)


def _refuse_go(image: Image) -> None:
    if image.is_go():
        raise NotSupported(
            "it is a Go program, which moves its stacks and crashes when return addresses on them are replaced",
            where=image.name, fix="use uprobe at its entry, or at each of its ret instructions (NAME+OFFSET)",
        )  # fmt: skip


def _static(found: Found, file: str, name: str, pid: int, arguments: int) -> list[Place]:
    places: list[Place] = []
    missing: UserError | None = None
    looked_at = ""
    if file == ANY_FILE and not pid:
        raise UserError("probes of any file can only be looked for in a process", where=f"{file}:{name}", fix="give -p")
    if file != ANY_FILE:
        binary = libs.find(file, pid)
        looked_at = binary.path
        with Image(binary.path, binary.name) as image:
            try:
                places = _static_places(found, image, binary, usdt.find(image, name), arguments)
            except NotFound as err:
                missing = err
    if pid and not places:
        # A library that registers probes at run time writes them into a file of their own and maps it.
        for binary, sites in usdt.in_process(pid, name, looked_at):
            with Image(binary.path, binary.name) as image:
                places += _static_places(found, image, binary, sites, arguments)
    if not places:
        raise missing or NotFound(f"process {pid} has no probe {name}")
    return places


def _static_places(
    found: Found, image: Image, binary: libs.Binary, sites: Iterable[Site], arguments: int
) -> list[Place]:
    symbols = Symbols(image)
    return [_static_place(found, image, symbols, binary, site, arguments) for site in sites]


def _static_place(
    found: Found, image: Image, symbols: Symbols, binary: libs.Binary, site: Site, arguments: int
) -> Place:
    place = Place(binary, image.inode, site.offset, site.full_name)
    place.semaphore = site.semaphore
    if not arguments:
        return place
    read = usdt.arguments(image, symbols, site)
    where = f"{binary.name}:{site.full_name}"
    if arguments > len(read):
        raise UserError(f"this probe has {len(read)} arguments, and the function takes {arguments}", where=where)
    for n, one in enumerate(read[:arguments]):
        if one.kind == usdt_args.UNREADABLE:
            found.warnings.append(f"{where}: argument {n + 1} ({one.text}) cannot be read: {one.why}")
    place.record = usdt_args.pack(read)
    return place


def replaced(places: Iterable[Place]) -> list[str]:
    """Files that were replaced on disk since they were attached to: what starts now runs the new, untraced one."""
    out: dict[str, None] = {}
    for path, inode in {(one.path, one.inode) for one in places}:
        if path.startswith("/proc/"):
            continue
        try:
            info = os.stat(path)
        except OSError:
            out[path] = None
            continue
        if (info.st_dev, info.st_ino) != inode:
            out[path] = None
    return list(out)
