# SPDX-License-Identifier: Apache-2.0
"""The kernel's own build and its modules: where they are, which build they are."""

from __future__ import annotations

import os

from osmia.kernel.btf_source import build_id

MODULES = "/proc/modules"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NOTES = "/sys/kernel/notes"
MODULE_NOTES = "/sys/module/{}/notes/.note.gnu.build-id"


class Module:
    """A loaded module: where it begins (0: hidden from us), bytes of it, build id (hexadecimal, may be empty)."""

    __slots__ = ("base", "build_id", "name", "size")

    def __init__(self, name: str, base: int, size: int, build_id: str) -> None:
        self.name = name
        self.base = base
        self.size = size
        self.build_id = build_id


def loaded() -> dict[str, Module]:
    """The loaded modules by name; empty for a kernel without modules.

    ``size`` counts all of a module's memory; since 6.4 its code and data lie
    apart, so that the code ends earlier than ``base + size`` says.
    """
    found = {}
    for line in _read(MODULES).decode("ascii", "replace").splitlines():
        fields = line.split()
        if len(fields) >= 6:
            name = fields[0]
            found[name] = Module(name, int(fields[5], 16), int(fields[1]), build_id(_read(MODULE_NOTES.format(name))))
    return found


def boot() -> str:
    """A name of this boot: addresses of the kernel change with each."""
    return f"{os.uname().release} {_read(BOOT_ID).decode('ascii', 'replace').strip()}"


def kernel_build_id() -> str:
    """The running kernel's build id; empty if it was built without one."""
    return build_id(_read(NOTES))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""
