# SPDX-License-Identifier: Apache-2.0
"""Constants by name, for expressions that people type: the kernel's enumerators, and the numbers of the system's ABI.

A ``#define`` leaves no trace in the kernel's types.  Those that are the same
on every kernel (``ENOENT``, ``O_CREAT``, ``AF_INET``, ``SIGKILL``,
``S_IFDIR``) Python knows; flags of memory requests are put together of the
bits that the types do name (enum ___GFP_..._BIT, since 6.10).
"""

from __future__ import annotations

from osmia.compiler.ktypes import Kernel
from osmia.obj import consts

_MODULES = {
    "errno": ("E",), "os": ("O_", "SEEK_"), "socket": ("AF_", "SOCK_", "IPPROTO_", "SOL_", "SO_", "TCP_", "MSG_"),
    "stat": ("S_I",), "signal": ("SIG",), "mmap": ("PROT_", "MAP_"),
}  # fmt: skip
_FILE_TYPE = 0o170000  # S_IFMT, which is a function in Python
#: include/linux/gfp_types.h: what the usual requests for memory are made of.
_GFP = {
    "__GFP_RECLAIM": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM"),
    "GFP_ATOMIC": ("HIGH", "KSWAPD_RECLAIM"),
    "GFP_NOWAIT": ("KSWAPD_RECLAIM",),
    "GFP_NOIO": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM"),
    "GFP_NOFS": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO"),
    "GFP_KERNEL": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS"),
    "GFP_KERNEL_ACCOUNT": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "ACCOUNT"),
    "GFP_USER": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "HARDWALL"),
    "GFP_DMA": ("DMA",),
    "GFP_DMA32": ("DMA32",),
}  # fmt: skip


def constant(kernel: Kernel, name: str) -> int | None:
    """The value of the constant ``name``; None where neither the kernel's types nor the ABI have it."""
    found = _of_system(name)
    if found is None and name.lstrip("_").startswith("GFP_"):
        found = _gfp(kernel, name)
    return _of_kernel(kernel, name) if found is None else found


def _of_system(name: str) -> int | None:
    from importlib import import_module

    if name == "S_IFMT":
        return _FILE_TYPE
    for module, prefixes in _MODULES.items():
        if name.isupper() and name.startswith(prefixes):
            value = getattr(import_module(module), name, None)
            if isinstance(value, int):
                return int(value)
    return None


def _gfp(kernel: Kernel, name: str) -> int | None:
    parts = _GFP.get(name) or ((name.removeprefix("__GFP_"),) if name.startswith("__GFP_") else ())
    bits = [_of_kernel(kernel, f"___GFP_{part}_BIT") for part in parts]
    return sum(1 << bit for bit in bits if bit is not None) if bits and None not in bits else None


def _of_kernel(kernel: Kernel, name: str) -> int | None:
    """The enumerator ``name`` of any enumeration of the kernel's."""
    btf = kernel.btf
    if btf is None or not name.isidentifier():
        return None
    for kind in (consts.BTF_KIND_ENUM, consts.BTF_KIND_ENUM64):
        for id in btf.ids():
            if btf.kind_of(id) == kind:
                for one, value in btf.get(id).enumerators:
                    if one == name:
                        return int(value)
    return None
