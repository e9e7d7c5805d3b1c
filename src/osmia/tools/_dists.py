# SPDX-License-Identifier: Apache-2.0
"""The programs of argdist: one map or histogram for each specification, and what adds to it."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler.built import in_c
from osmia.lang.hist import log2_hist
from osmia.lang.maps import Hash
from osmia.lang.types import Event, Str, s64, u64
from osmia.probespec import ctypes
from osmia.probespec.statements import Distribution
from osmia.probespec.tree import Cast
from osmia.tools._probes import Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Different values of one specification that are counted apart, at most.
_KEYS = 16384
#: What a key may take of the kernel's stack.
_KEY_BYTES = 256


class Dist:
    """One specification: ``map`` is where it is counted, ``histogram`` whether that is a histogram."""

    def __init__(self, probe: Probe, statement: Distribution, histogram: bool) -> None:
        self.probe = probe
        self.statement = statement
        self.histogram = histogram
        self.map: Any = None
        if histogram and len(statement.values) > 1:
            _refuse(statement, "a histogram shows one value", "-C counts several together")
        if histogram and statement.default and not statement.place.returns:
            _refuse(statement, "a histogram needs a value", "add :TYPE:VALUE, as in :size_t:size")

    @property
    def labels(self) -> list[str]:
        """What each value is called: as it was typed, ``$entry(size)`` as bcc shows it."""
        if self.statement.default:
            return ["retval"] if self.statement.place.returns else []
        out = []
        for text in self.statement.texts:
            before, entry, rest = text.partition("$entry(")
            while entry:
                name, _, after = rest.partition(")")
                text = before + name + after
                before, entry, rest = text.partition("$entry(")
            out.append(text)
        return out


def _refuse(statement: Distribution, what: str, fix: str) -> None:
    statement.source.fail(0, len(statement.source.text.partition("#")[0]), what, fix)


def program(dist: Dist, string_size: int, space: dict[str, Any]) -> None:
    """Make the map and the programs of one specification."""
    probe, statement = dist.probe, dist.statement
    number = probe.number
    body = ["if not wanted():", "    return", *probe.begins()]
    holes: dict[str, ast.expr] = {}
    if statement.filter is not None:
        body += ["if not __filter:", "    return"]
        holes["__filter"] = statement.filter
    if dist.histogram:
        kind = statement.kinds[0]
        if ctypes.is_string(kind):
            _refuse(statement, "text has no histogram", "-C counts texts")
        dist.map = log2_hist(dist.labels[0] if dist.labels else "value")
        name = f"hist_{number}"
        holes["__v0"] = _cast(statement.values[0], kind)
        body.append(f"{name}.add(__v0)")
    else:
        key = _key(dist, string_size)
        dist.map = Hash[key, u64](_KEYS)
        name = f"counts_{number}"
        space = {**space, "Key": key}
        body += ["key = Key()", *_values(statement, holes), f"{name}[key] += 1"]
    probe.declared[name] = dist.map
    for at, hook in enumerate(probe.hooks):
        more = f"_{at + 1}" if len(probe.hooks) > 1 else ""
        probe.add(f"probe_{number}{more}", hook, body, dict(holes), {**space, **probe.declared})


def _cast(value: ast.expr, kind: str) -> ast.expr:
    return ast.copy_location(Cast(value, kind), value)


def _key(dist: Dist, string_size: int) -> Any:
    """The event class of the key: numbers with 64 bits, whatever they are cut to before."""
    notes: dict[str, Any] = {}
    for n, kind in enumerate(dist.statement.kinds):
        notes[f"v{n}"] = Str.of(string_size) if ctypes.is_string(kind) else s64 if _signed(kind) else u64
    made: Any = type(f"Key{dist.probe.number}", (Event,), {"__annotations__": notes})
    if made.layout().size > _KEY_BYTES:
        _refuse(dist.statement, f"the values take {made.layout().size} bytes, and there is room for {_KEY_BYTES}",
                "say less with -z BYTES, or leave a text out")
    return made


def _signed(kind: str) -> bool:
    """Whether a type's values may be negative; of types that only the kernel knows its BTF tells."""
    known = ctypes.integer(kind)
    if known is None and not ctypes.pointee(kind):
        from osmia.compiler.ktypes import Kernel
        from osmia.kernel import btf_source

        try:
            return Kernel(btf_source.kernel_btf()).named(kind).signed
        except KeyError:
            return False  # the compiler says that there is no such type
    return known is not None and known[1]


def _values(statement: Distribution, holes: dict[str, ast.expr]) -> list[str]:
    lines = []
    for n, (kind, value) in enumerate(zip(statement.kinds, statement.values, strict=True)):
        holes[f"__v{n}"] = in_c(value, text=True) if ctypes.is_string(kind) else _cast(value, kind)
        lines.append(f"key.v{n} = __v{n}")
    return lines
