# SPDX-License-Identifier: Apache-2.0
"""Static probes of user programs (USDT): the notes that ``<sys/sdt.h>`` leaves in ``.note.stapsdt``.

A probe is a ``nop`` that the kernel turns into a breakpoint, a description
of where its arguments are, and perhaps a semaphore: a counter that the
program looks at before it spends time on arguments, and that the kernel
raises in every process, present and future, while somebody listens.
Libraries that register probes at run time (libstapsdt) and the static
tracepoints of folly make files of the same format.
"""

from __future__ import annotations

import struct

from osmia.errors import NotFound, NotSupported, UserError
from osmia.symbols import libs, usdt_args
from osmia.symbols.elf_syms import Symbols, is_pattern
from osmia.symbols.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from osmia.symbols.usdt_args import Argument

SECTION, OWNER, TYPE = ".note.stapsdt", b"stapsdt", 3
BASE_SECTION = ".stapsdt.base"
#: Programs whose every probe is meant, where no name is given.
_ANY = "*"


class Site:
    """One place of a probe; compilers make several of one probe where they inline or unroll.

    ``offset`` and ``semaphore`` are file offsets (semaphore 0: none), ``spec``
    the text that says where the arguments are.
    """

    __slots__ = ("address", "name", "offset", "provider", "semaphore", "spec")

    def __init__(self, provider: str, name: str, spec: str, address: int, offset: int, semaphore: int) -> None:
        self.provider = provider
        self.name = name
        self.spec = spec
        self.address = address
        self.offset = offset
        self.semaphore = semaphore

    def __repr__(self) -> str:
        return f"<Site {self.provider}:{self.name} at {self.offset:#x}>"

    @property
    def full_name(self) -> str:
        return f"{self.provider}:{self.name}"


def sites(image: Image) -> list[Site]:
    """All probes of one file, in the order of their notes.  UserError where a note is damaged."""
    base = 0
    for section in image.sections:
        if section.name == BASE_SECTION:
            base = section.address
    out = []
    for owner, kind, raw in image.notes(SECTION):
        if owner == OWNER and kind == TYPE:
            out.append(_site(image, bytes(raw), base))
    return out


def _site(image: Image, raw: bytes, base: int) -> Site:
    try:
        address, link_base, semaphore = struct.unpack_from("<QQQ", raw)
        provider, name, spec = raw[24:].split(b"\0")[:3]
    except (struct.error, ValueError):
        raise image.damaged("a probe's note is cut short") from None
    # prelink moves a file's addresses but not those in notes: the base section tells by how much.
    shift = base - link_base if base else 0
    offset = image.file_offset(address + shift, code=True)
    counter = image.file_offset(semaphore + shift) if semaphore else 0
    if offset is None or counter is None:
        raise image.damaged(f"probe {name.decode('ascii', 'replace')} lies outside of the file")
    text = [part.decode("utf-8", "surrogateescape") for part in (provider, name, spec)]
    return Site(text[0], text[1], text[2], address + shift, offset, counter)


def arguments(image: Image, symbols: Symbols, site: Site) -> list[Argument]:
    """Where the arguments of ``site`` are.  NotSupported on machines whose registers are not known."""
    if image.machine is None:
        raise NotSupported("the arguments of its probes are not known for this machine", where=image.name)
    return usdt_args.parse(site.spec, image.machine, symbols.address, site.address)


def find(image: Image, name: str) -> list[Site]:
    """The sites of the probe ``provider:name`` (or ``name``); shell patterns may match several probes.

    Raises NotFound with near names.
    """
    provider, colon, probe = name.rpartition(":")
    everything = sites(image)
    found = [one for one in everything
             if _accepts(probe, one.name) and (not colon or _accepts(provider, one.provider))]  # fmt: skip
    if found:
        return found
    if not everything:
        raise NotFound("it has no static probes", where=image.name, fix="it must be built with <sys/sdt.h> probes")
    import difflib

    names = sorted({one.name for one in everything})
    near = difflib.get_close_matches(probe, names, 3) or names[:5]
    raise NotFound(f"there is no probe {name}", where=image.name, fix=f"it has {', '.join(near)}")


def _accepts(pattern: str, name: str) -> bool:
    if not is_pattern(pattern):
        return pattern == name
    import fnmatch

    return fnmatch.fnmatchcase(name, pattern)


def in_process(pid: int, name: str, skip: str = "") -> Iterator[tuple[libs.Binary, list[Site]]]:
    """Files mapped by process ``pid``, now, that have the probe ``name``: where run-time registered ones are found.

    Each file is opened as the process sees it, deleted and memory-only ones
    (memfd) included.  ``skip`` is a path that has been looked at.
    """
    for one in libs.mappings(pid):
        path = libs.opened_through(pid, one)
        if path == skip:
            continue
        try:
            with Image(path, one.path) as image:
                yield libs.Binary(path, one.path), find(image, name)
        except UserError:
            continue
