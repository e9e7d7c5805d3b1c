# SPDX-License-Identifier: Apache-2.0
"""One line of a stack: an address, what is known of it, and what it takes to find out more elsewhere."""

from __future__ import annotations

#: What ``Frame.kind`` may be.  UNKNOWN: nothing is mapped there, or the process was gone before it was looked at.
KERNEL, USER, JIT, UNKNOWN = "kernel", "user", "jit", "unknown"


class Frame:
    """A resolved address.

    ``name`` is the function (demangled; empty where no symbol covers the
    address, never the nearest one), ``offset`` the bytes from its start.
    ``module`` is the file as its process sees it, a kernel module's name, empty
    for the kernel itself, or what kind of memory without a file it is:
    ``[anon]``, ``[heap]``, ``[stack]``.  ``build_id``
    (hexadecimal, may be empty) and ``file_offset`` (bytes in that file; for
    the kernel from its first function, for a kernel module from its first
    byte; -1 where there is no file) stay true on another machine and after
    the process is gone, when ``address`` has no meaning any more.
    """

    __slots__ = ("address", "build_id", "file_offset", "kind", "module", "name", "offset")

    def __init__(
        self,
        address: int,
        kind: str,
        name: str = "",
        offset: int = 0,
        module: str = "",
        build_id: str = "",
        file_offset: int = -1,
    ) -> None:
        self.address = address
        self.kind = kind
        self.name = name
        self.offset = offset
        self.module = module
        self.build_id = build_id
        self.file_offset = file_offset

    def __repr__(self) -> str:
        return f"<Frame {self.address:#x} {self.kind} {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.address, self.kind, self.name, self.build_id))

    @property
    def module_name(self) -> str:
        """The module without its folders: ``libc.so.6``, ``nf_tables``, ``[vdso]``."""
        return self.module.rpartition("/")[2]

    @property
    def label(self) -> str:
        """What a flame graph writes: the name, ``[libc.so.6+0x28e3b]`` (offset in the file), or the bare address.

        Functions of kernel modules carry the module behind them: ``xmit [dummy]``.
        """
        if self.name:
            return f"{self.name} [{self.module}]" if self.kind == KERNEL and self.module else self.name
        if self.file_offset >= 0:
            return f"[{self.module_name.strip('[]') or 'kernel'}+{self.file_offset:#x}]"
        if self.module:
            return f"[{self.module_name.strip('[]')}]"
        return f"{self.address:#x}"

    def __str__(self) -> str:
        """The label, with the offset in the function where there is one: ``vfs_read+0x1c``."""
        if not self.name or not self.offset:
            return self.label
        module = f" [{self.module}]" if self.kind == KERNEL and self.module else ""
        return f"{self.name}+{self.offset:#x}{module}"

    def record(self) -> dict[str, object]:
        """The frame as plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}
