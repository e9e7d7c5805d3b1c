# SPDX-License-Identifier: Apache-2.0
"""Specs: what an object file says, before any kernel has seen it.

Reading an object is deterministic and knows nothing of this machine;
everything that depends on the kernel happens when :mod:`osmia.load` makes a
spec live.  Plain ``__slots__`` classes, because a warm start may not afford
the import of :mod:`dataclasses` (6-16 ms).
"""

from __future__ import annotations


class MapSpec:
    """One map: a ``.maps`` definition, or a data section (``contents`` set).

    ``type`` is a ``BPF_MAP_TYPE_*`` number; sizes are bytes; ``key_tid`` and
    ``value_tid`` are type ids in the object's own BTF (0: none).
    ``variables`` (data sections only) maps a variable's name to its
    ``(offset, size)`` in ``contents``.
    """

    __slots__ = (
        "contents", "extra", "flags", "inner", "key_size", "key_tid", "max_entries",
        "name", "numa_node", "pinning", "type", "value_size", "value_tid", "variables",
    )

    def __init__(self, name: str, type: int, key_size: int = 0, value_size: int = 0, max_entries: int = 0) -> None:
        self.name = name
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = 0
        self.key_tid = 0
        self.value_tid = 0
        self.numa_node = 0
        self.pinning = 0
        self.extra = 0
        self.inner: MapSpec | None = None
        self.contents: bytearray | None = None
        self.variables: dict[str, tuple[int, int]] = {}

    def set(self, name: str, value: bytes) -> None:
        """Overwrite one variable of a data section before load; ``value`` may be shorter (zero padded)."""
        offset, size = self.variables[name]
        if self.contents is None or len(value) > size:
            raise ValueError(f"{name}: {len(value)} bytes do not fit in {size}")
        self.contents[offset : offset + size] = value + bytes(size - len(value))


class Reloc:
    """A reference to patch in a program's instructions.

    ``offset`` is the byte offset of the instruction within the program;
    ``kind`` is ``"map"`` (fd of map ``target``), ``"data"`` (address
    ``addend`` within data map ``target``), ``"call"`` (BPF-to-BPF call of
    function ``target``), ``"func"`` (address of function ``target``, for
    callbacks).
    """

    __slots__ = ("addend", "kind", "offset", "target")

    def __init__(self, offset: int, kind: str, target: str, addend: int = 0) -> None:
        self.offset = offset
        self.kind = kind
        self.target = target
        self.addend = addend


class FuncSpec:
    """One function's code: an entry program, or a subprogram that programs call.

    ``insns`` is the raw instruction bytes (8 each).  ``core_relos``,
    ``func_info`` and ``line_info`` are the records of ``.BTF.ext`` for this
    function with ``insn_off`` rebased to the function's start and still in
    **bytes**: tuples ``(insn_off, type_id, access_str_off, kind)``,
    ``(insn_off, type_id)``, ``(insn_off, file_name_off, line_off, line_col)``.
    """

    __slots__ = ("core_relos", "func_info", "insns", "line_info", "name", "relocs")

    def __init__(self, name: str, insns: bytes) -> None:
        self.name = name
        self.insns = insns
        self.relocs: list[Reloc] = []
        self.core_relos: list[tuple[int, int, int, int]] = []
        self.func_info: list[tuple[int, int]] = []
        self.line_info: list[tuple[int, int, int, int]] = []


class ProgSpec(FuncSpec):
    """An entry program.

    ``section`` is the ELF section name (``tracepoint/block/block_rq_issue``),
    ``type`` a ``BPF_PROG_TYPE_*`` number, ``attach_type`` the
    ``expected_attach_type`` (0: none), ``target`` what the section name says
    it attaches to (``block:block_rq_issue``, ``sched_switch``, ``task``;
    may be empty) and ``sleepable`` whether BPF_F_SLEEPABLE is set.
    """

    __slots__ = ("attach_type", "hook", "section", "sleepable", "target", "type")

    def __init__(self, name: str, insns: bytes, section: str) -> None:
        super().__init__(name, insns)
        self.section = section
        self.hook = ""  # "tracepoint", "raw_tracepoint", "tp_btf", "perf_event", "iter", "syscall", ...
        self.type = 0
        self.attach_type = 0
        self.target = ""
        self.sleepable = False


class ObjectSpec:
    """A whole object: maps and programs by name, BTF, licence.

    ``funcs`` holds the subprograms (``.text``); ``meta`` is the content of
    the ``osmia`` section (:mod:`osmia.obj.meta`), empty for others' objects.
    """

    __slots__ = ("btf", "funcs", "license", "maps", "meta", "name", "progs")

    def __init__(self, name: str) -> None:
        self.name = name
        self.license = ""
        self.btf = b""
        self.meta = b""
        self.maps: dict[str, MapSpec] = {}
        self.progs: dict[str, ProgSpec] = {}
        self.funcs: dict[str, FuncSpec] = {}
