# SPDX-License-Identifier: Apache-2.0
"""The argument of programs that see packets: fields of the packet's record, and its bytes.

The records are user API, so their offsets are fixed: ``struct __sk_buff`` and
``struct xdp_md`` in ``include/uapi/linux/bpf.h``.  Bytes are copied by helper
(``bpf_skb_load_bytes`` 4.5, ``bpf_xdp_load_bytes`` 5.18), which also reaches
what does not lie in the packet's first piece of memory.
"""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn, Record, Var
from osmia.compiler.values import UINT, TConst, Val
from osmia.lang.net_probes import BYTES, NOTHING
from osmia.lang.probes import Hook
from osmia.obj import consts

_SKB = {
    "len": 0, "pkt_type": 4, "mark": 8, "queue_mapping": 12, "vlan_present": 20, "vlan_tci": 24, "priority": 32,
    "ingress_ifindex": 36, "ifindex": 40, "hash": 68, "napi_id": 84,
}  # fmt: skip
_TC = {**_SKB, "tc_index": 44, "tc_classid": 72, "wire_len": 160, "gso_segs": 164, "gso_size": 176}
_XDP = {"ifindex": 12, "rx_queue_index": 16}
_FIELDS = {"socket_filter": _SKB, "tc": _TC, "xdp": _XDP}
_PROTOCOL = 16  # of __sk_buff, in network byte order
_DATA, _DATA_END = 0, 4  # of xdp_md


def bind(fn: Fn, names: list[str], hook: Hook) -> None:
    """Give the function's parameter, the packet, its value."""
    fn.nothing = NOTHING[hook.kind]
    if len(names) > 1:
        fn.fail(fn.source.node.args.args[1], f"a {hook.kind} function takes one argument, the packet",
                f"def {fn.source.node.name}({names[0]}): ...")
    if names:
        fn.params[names[0]] = Var(TConst(PacketRecord(hook.kind)), [])


class PacketRecord(Record):
    """``packet``: what each kind of program may know of it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields = _FIELDS[kind]

    def field(self, fn: Fn, node: ast.Attribute) -> Val:
        name = node.attr
        if name in self.fields:
            return self._load(fn, node, self.fields[name])
        if name == "len" and self.kind == "xdp":
            end, start = self._load(fn, node, _DATA_END), self._load(fn, node, _DATA)
            return Val(UINT, [fn.keep(fn.bin("sub", end.exprs[0], start.exprs[0], False))])
        if name == "protocol" and self.kind != "xdp":
            raw = self._load(fn, node, _PROTOCOL).exprs[0]
            low = fn.bin("lshr", fn.bin("and", raw, fn.num(0xFF00), False), fn.num(8), False)
            high = fn.bin("shl", fn.bin("and", raw, fn.num(0xFF), False), fn.num(8), False)
            return Val(UINT, [fn.keep(fn.bin("or", low, high, False))])
        if name in BYTES:
            fn.fail(node, f"{name} is a method", f"write packet.{name}(offset)")
        if name == "protocol":
            fn.fail(node, "an XDP packet has not been looked at yet, so its protocol is not known",
                    "read it: packet.u16(12)")
        known = ["len", *(["protocol"] if self.kind != "xdp" else []), *(n for n in self.fields if n != "len")]
        fn.fail(node, f"the packet of a {self.kind} program has no field {name!r}", f"it has {', '.join(known)}")

    def method(self, fn: Fn, node: ast.Call, name: str) -> Val | None:
        """``u8(offset)`` to ``u64(offset)``: a number in network byte order; 0 beyond the packet's end."""
        if name not in BYTES:
            fn.fail(node, f"a packet has no method {name}()", f"it has {', '.join(f'{n}(offset)' for n in BYTES)}")
        if len(node.args) != 1 or node.keywords:
            fn.fail(node, f"{name}() takes one argument, the offset from the packet's start in bytes")
        from osmia.compiler.dispatch import expr

        offset, _ = fn.as_int(expr(fn, node.args[0]), node.args[0])
        fn.at(node)
        size = BYTES[name]
        # Zero first: a failed copy need not touch it.
        place = fn.slot("packet", tir.U64)
        fn.store(place, fn.num(0), tir.U64)
        helper = consts.BPF_FUNC_xdp_load_bytes if self.kind == "xdp" else consts.BPF_FUNC_skb_load_bytes
        fn.do(helper, self._context(fn, node), fn.bin("and", offset, fn.num(0xFFFFFFFF), False), place, fn.num(size))
        value: tir.Expr = fn.num(0, False)
        for at in range(size):  # which LLVM makes one load and a byte swap of
            byte = fn.load(fn.offset(place, at), tir.U8)
            shift = 8 * (size - 1 - at)
            value = fn.bin("or", value, fn.bin("shl", byte, fn.num(shift), False) if shift else byte, False)
        return Val(UINT, [fn.keep(value)])

    def _load(self, fn: Fn, node: ast.AST, offset: int) -> Val:
        return Val(UINT, [fn.load(fn.offset(self._context(fn, node), offset), tir.U32)])

    @staticmethod
    def _context(fn: Fn, node: ast.AST) -> tir.Expr:
        found = fn.context()
        if found is None:
            fn.fail(node, "this subprogram has no register left for the packet", "give it fewer arguments")
        return found
