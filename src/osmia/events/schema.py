# SPDX-License-Identifier: Apache-2.0
"""Types of events, keys and values as JSON, and back: what a recording says about the bytes in it.

A recording is read by its own schema and not by the tool's, which may have
changed since.  Nothing that is read here is executed: types are built from
names that are looked up and numbers that are checked.
"""

from __future__ import annotations

import re

from osmia.errors import UserError
from osmia.lang import types
from osmia.lang.types import Address, Array, Bytes, Data, Event, Int, Path, Str, Strs, is_enum, tuple_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.lang.types import Layout

_INTS = {one.__name__: one for one in (types.u8, types.u16, types.u32, types.u64,
                                       types.s8, types.s16, types.s32, types.s64)}  # fmt: skip
_PLAIN: dict[str, Any] = {"bool": bool, "int": int, **_INTS}
_SIZED = re.compile(r"(Str|Bytes|Data|Strs|Path)\[(\d{1,5})(?:, ?(\d{1,5}))?\]")
_TEXTS: dict[str, Any] = {"Str": Str, "Bytes": Bytes, "Data": Data, "Strs": Strs, "Path": Path}
#: Fields of this name and type are times: ``ktime()``.
TIME_FIELD = "ts"
_DEEPEST = 8


def type_of(kind: Any) -> Any:
    """A type as JSON: a name, or an object for what has parts."""
    if isinstance(kind, tuple):
        return {"tuple": [type_of(part) for part in kind]}
    if kind is bool or kind is int:
        return kind.__name__
    if is_enum(kind):
        return {"enum": kind.__name__, "members": {name: int(value) for name, value in kind.__members__.items()}}
    if issubclass(kind, Int):
        return next(name for name, one in _INTS.items() if (one.size, one.signed) == (kind.size, kind.signed))
    if issubclass(kind, Address):
        return {"address": kind.space, "target": kind.target}
    if issubclass(kind, Strs):
        return f"{'Path' if issubclass(kind, Path) else 'Strs'}[{kind.n}, {kind.each}]"
    if issubclass(kind, (Str, Bytes)):
        return f"{'Str' if issubclass(kind, Str) else 'Bytes'}[{kind.n}]"
    if issubclass(kind, Data):
        return f"Data[{kind.n}]"
    if issubclass(kind, Array):
        return {"array": type_of(kind.elem), "count": kind.n}
    if issubclass(kind, Event):
        return event_of(kind)
    raise TypeError(f"{kind!r} cannot be recorded")


def event_of(event: type[Event]) -> dict[str, Any]:
    """A structure: its fields with types, offsets and sizes in bytes, and units where they are known."""
    layout = event.layout()
    fields = []
    for field in layout:
        one = {"name": field.name, "type": type_of(field.type), "offset": field.offset, "size": field.size}
        if field.name == TIME_FIELD and field.type is types.u64:
            one["unit"] = "ns, CLOCK_MONOTONIC"
        fields.append(one)
    tail = layout.tail.name if layout.tail is not None else None
    return {"struct": event.__name__, "size": layout.size, "tail": tail, "fields": fields}


def kind_of(said: Any, deep: int = 0) -> Any:
    """The type that JSON names.  Raises UserError where it names none."""
    if deep > _DEEPEST:
        raise _bad("types are nested too deeply")
    try:
        if isinstance(said, str):
            return _plain(said)
        if "tuple" in said:
            return tuple([kind_of(part, deep + 1) for part in said["tuple"]])
        if "enum" in said:
            return _enum(said)
        if "array" in said:
            return Array[kind_of(said["array"], deep + 1), _count(said["count"])]
        if "address" in said:
            return (types.User if said["address"] == "user" else types.Kernel)[str(said["target"])]
        return event_from(said, deep)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _bad(f"there is no type {str(said)[:60]!r}") from None


def event_from(said: dict[str, Any], deep: int = 0) -> type[Event]:
    """The structure that JSON describes.  Raises UserError where it is none, or would lie otherwise in memory."""
    notes: dict[str, Any] = {}
    for field in said["fields"]:
        name = field["name"]
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("__") or name in notes:
            raise _bad(f"{name!r} is no name of a field")
        notes[name] = kind_of(field["type"], deep + 1)
    name = said["struct"]
    if not notes:
        raise _bad(f"{name!r} has no fields")
    if not isinstance(name, str) or not name.isidentifier():
        raise _bad(f"{name!r} is no name of a structure")
    made: type[Event] = type(name, (Event,), {"__annotations__": notes, "__layout__": types.lay_out([*notes.items()])})
    told = [(field["name"], field["offset"], field["size"]) for field in said["fields"]]
    if _places(made.layout()) != told:
        raise _bad(f"the fields of {name} lie where this version of osmia does not expect them")
    return made


def _places(layout: Layout) -> list[tuple[str, int, int]]:
    return [(field.name, field.offset, field.size) for field in layout]


def _plain(name: str) -> Any:
    if name in _PLAIN:
        return _PLAIN[name]
    found = _SIZED.fullmatch(name)
    if found is None:
        raise _bad(f"there is no type {name[:60]!r}")
    kind, n, each = _TEXTS[found[1]], int(found[2]), found[3]
    return kind[n, int(each)] if each is not None else kind[n]


def _enum(said: dict[str, Any]) -> Any:
    import enum

    members = {str(name): int(value) for name, value in said["members"].items()}
    if not all(name.isidentifier() and not name.startswith("_") and name != "mro" for name in members):
        raise _bad(f"{said['enum']!r} has members without a name")
    return enum.IntEnum(str(said["enum"]), members)


def _count(n: Any) -> int:
    if not isinstance(n, int) or not 1 <= n <= 1 << 16:
        raise _bad(f"{n!r} is no length of an array")
    return n


def names(kind: Any) -> Any:
    """The names of what a key or value consists of, for people who read a schema; empty for a single value."""
    if isinstance(kind, tuple):
        return [field.name for field in tuple_layout(kind)]
    return [field.name for field in kind.layout()] if isinstance(kind, type) and issubclass(kind, Event) else []


def _bad(what: str) -> UserError:
    return UserError(f"its schema is damaged: {what}", where="recording")
