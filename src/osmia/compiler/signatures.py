# SPDX-License-Identifier: Apache-2.0
"""What BTF says about the kernel's functions: the types of their arguments and results.

A function that the compiler inlined everywhere is not there, nor (since
pahole 1.25) one whose arguments it changed or that exists several times with
different arguments: being there is the proof that arguments are where the
calling convention puts them.
"""

from __future__ import annotations

from osmia.compiler.ktypes import KT, Kernel
from osmia.obj import consts
from osmia.obj.btf import Btf

_FUNC = (consts.BTF_KIND_FUNC,)
#: The most that two registers carry: what is larger is passed in memory.
IN_REGISTERS = 16


class Signature:
    """``params`` are ``(name, type)`` in order, ``ret`` the result's type (kind ``void``: none)."""

    def __init__(self, name: str, params: list[tuple[str, KT]], ret: KT) -> None:
        self.name = name
        self.params = params
        self.ret = ret

    def __str__(self) -> str:
        return f"{self.name}({', '.join(name or str(kt) for name, kt in self.params)})"


def width(kt: KT) -> int:
    """Slots of eight bytes that an argument of this type takes."""
    return max(1, (kt.size + 7) // 8)


def signature(kernel: Kernel, name: str) -> Signature | None:
    """The signature of function ``name`` (``module:name`` too), from the kernel's BTF or a module's; None: unknown."""
    if kernel.btf is None:
        return None
    module, _, plain = name.rpartition(":")
    if not module:
        id = kernel.btf.find(plain, _FUNC)
        if id:
            return _made(kernel, kernel.btf, id)
    btf = kernel.module_types(module, plain) if kernel.module_types is not None else None
    id = btf.find(plain, _FUNC) if btf is not None else 0
    if btf is None or not id:
        return None
    return _made(kernel.with_types(btf), btf, id)


def _made(kernel: Kernel, btf: Btf, id: int) -> Signature:
    function = btf.get(id)
    proto = btf.get(btf.resolve(function.type_id))
    params = [(name, kernel.by_id(type_id)) for name, type_id in proto.params]
    return Signature(function.name, params, kernel.by_id(proto.type_id))


def near(kernel: Kernel, name: str) -> list[str]:
    """Names of functions like ``name``."""
    head = name[:3] if len(name) > 4 else ""
    return [head + rest for rest in kernel.suggest(head, name.removeprefix(head), _FUNC)]
