# SPDX-License-Identifier: Apache-2.0
"""Types of the kernel half, written once: layout, decoder, columns and JSON schema all follow from them.

``u8`` … ``s64`` are integers of a fixed width; called, they wrap a number to
that width (``u32(-1) == 4294967295``), in the kernel as in CPython.
``Str[n]`` is a NUL-terminated string in ``n`` bytes, ``Bytes[n]`` plain
bytes, ``Array[T, n]`` ``n`` values of ``T``; ``Strs[n]`` is a list of strings
that takes up to ``n`` bytes and, as the last field of an event, is sent with
the length it really has, and so is ``Data[n]``, up to ``n`` plain bytes;
``Path`` is a file name with the directory that it is relative to.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeVar

    Sized = TypeVar("Sized")


class Int(int):
    """Base of the integers of fixed width; ``size`` in bytes, ``code`` as :mod:`struct` spells it."""

    size = 8
    signed = True
    code = "q"

    def __new__(cls, value: Any = 0) -> Any:
        bits = 8 * cls.size
        number = int(value) & ((1 << bits) - 1)
        if cls.signed and number >> (bits - 1):
            number -= 1 << bits
        return number


class u8(Int):
    """Unsigned, 8 bits."""

    size, signed, code = 1, False, "B"


class u16(Int):
    """Unsigned, 16 bits."""

    size, signed, code = 2, False, "H"


class u32(Int):
    """Unsigned, 32 bits."""

    size, signed, code = 4, False, "I"


class u64(Int):
    """Unsigned, 64 bits."""

    size, signed, code = 8, False, "Q"


class s8(Int):
    """Signed, 8 bits."""

    size, signed, code = 1, True, "b"


class s16(Int):
    """Signed, 16 bits."""

    size, signed, code = 2, True, "h"


class s32(Int):
    """Signed, 32 bits."""

    size, signed, code = 4, True, "i"


class s64(Int):
    """Signed, 64 bits."""

    size, signed, code = 8, True, "q"


class _Sized(type):
    """Metaclass of types with a length: ``Str[16]`` is a subclass of ``Str`` made once."""

    _made: dict[tuple[type, Any], Any] = {}

    def __getitem__(cls, n: Any) -> Any:
        made = _Sized._made.get((cls, n))
        if made is None:
            made = _Sized._made[cls, n] = cls.of(n)  # type: ignore[attr-defined]
        return made


def _of_bytes(cls: type[Sized], name: str, n: Any) -> type[Sized]:
    """``NAME[n]``, a kind of ``cls`` with ``n`` bytes; TypeError."""
    if not isinstance(n, int) or not 1 <= n <= 32768:
        raise TypeError(f"{name}[{n!r}]: the size is a number of bytes from 1 to 32768")
    return type(f"{name}[{n}]", (cls,), {"n": n})


class Str(str, metaclass=_Sized):
    """``Str[n]``: text in ``n`` bytes, NUL included; longer text is cut, and a cut text is marked when shown.

    As the last field of an event and of 256 bytes or more it is sent with
    the length that it has.

    Example::

        class Open(Event):
            path: Str[256]

        opens = Ring(Open)

        @tracepoint("syscalls:sys_enter_openat")
        def enter(call):
            with opens.reserve() as e:
                e.path = call.filename
    """

    n = 0

    @classmethod
    def of(cls, n: int) -> type[Str]:
        return _of_bytes(cls, "Str", n)


class Bytes(bytes, metaclass=_Sized):
    """``Bytes[n]``: ``n`` bytes as they are."""

    n = 0

    @classmethod
    def of(cls, n: int) -> type[Bytes]:
        return _of_bytes(cls, "Bytes", n)


class Data(bytearray, metaclass=_Sized):
    """``Data[n]``: up to ``n`` bytes, sent with the length that they have; last field of an event only.

    The kernel half calls ``e.field.read(pointer, size)``, with a user or
    kernel pointer: it gives how many bytes there are then, at most ``n``, and
    0 where they cannot be read.

    Example::

        class Sent(Event):
            size: u64
            data: Data[4096]

        packets = Ring(Sent)

        @tracepoint("syscalls:sys_enter_sendto")
        def enter(call):
            with packets.reserve() as e:
                e.size = call.len
                e.data.read(call.buff, call.len)
    """

    n = 0

    @classmethod
    def of(cls, n: int) -> type[Data]:
        return _of_bytes(cls, "Data", n)

    def read(self, pointer: Any, size: int) -> int:
        """Have the ``size`` bytes at ``pointer`` (``bytes`` when run as Python)."""
        self[:] = bytes(pointer)[: max(0, min(size, self.n))]
        return len(self)


class Array(metaclass=_Sized):
    """``Array[T, n]``: ``n`` values of ``T`` in a row."""

    elem: Any = None
    n = 0

    @classmethod
    def of(cls, args: tuple[Any, int]) -> type[Array]:
        if not isinstance(args, tuple) or len(args) != 2:
            raise TypeError("an array of values has a type and a number: Array[u64, 4]; the map is osmia.Array")
        elem, n = args
        return type(f"Array[{elem.__name__}, {n}]", (cls,), {"elem": elem, "n": n})


class Address(int, metaclass=_Sized):
    """Base of the address types; ``target`` names what is there as C does (``"char"``, ``"struct request"``)."""

    target = ""
    space = ""

    @classmethod
    def of(cls, target: str) -> type[Address]:
        return type(f"{cls.__name__}[{target!r}]", (cls,), {"target": target})


class User(Address):
    """``User["char"]``: an address in the traced program's memory, 8 bytes; a number on the user side.

    Example::

        asked = Hash[u32, User["char"]]()

        @tracepoint("syscalls:sys_enter_openat")
        def enter(call):
            asked[current.pid] = call.filename  # the file name is read when the call is over

        @tracepoint("syscalls:sys_exit_openat")
        def leave(call):
            name = asked.pop(current.pid)
            if name is not None:
                print(f"{user_str(name)}: {call.ret}")
    """

    space = "user"


class Kernel(Address):
    """``Kernel["struct request"]``: a kernel address, 8 bytes; a number on the user side."""

    space = "kernel"


class Strs(list, metaclass=_Sized):  # type: ignore[type-arg]
    """``Strs[n]``: strings, together up to ``n`` bytes (each at most ``each`` bytes); last field of an event only.

    ``Strs[n, each]`` sets ``each`` (default: ``n``, at most 4096).  The
    kernel half calls ``e.field.add(pointer)``; what did not fit is marked:
    ``truncated`` of the decoded value is True.

    Example::

        class Start(Event):
            words: Strs[1024]

        starts = Ring(Start)

        @tracepoint("syscalls:sys_enter_execve")
        def enter(call):
            with starts.reserve() as e:
                for i in range(20):
                    word = read_user(call.argv, u64, i)
                    if not word:
                        break
                    e.words.add(cast(word, "char", user=True))
    """

    n = 0
    each = 0
    truncated = False

    @classmethod
    def of(cls, n: int | tuple[int, int]) -> type[Strs]:
        total, each = n if isinstance(n, tuple) else (n, min(n, 4096))
        for size in (total, each):
            if not isinstance(size, int) or not 1 <= size <= 32768:
                raise TypeError(f"{cls.__name__}[{n!r}]: sizes are numbers of bytes from 1 to 32768")
        return type(f"{cls.__name__}[{total}]", (cls,), {"n": total, "each": each})

    def add(self, text: Any, limit: int = 0) -> None:
        """Append the string at ``text`` (a user or kernel pointer; a ``str`` when run as Python)."""
        self.append(str(text))

    def truncate(self) -> None:
        """Mark the strings as cut: there were more than the kernel half looked at."""
        self.truncated = True

    @classmethod
    def show(cls, parts: list[str], truncated: bool) -> Any:
        """The value that users see for the strings ``parts``."""
        made = cls(parts)
        made.truncated = truncated
        return made


class Path(Strs):
    """``Path[n]``: a path as given, then the names of the directory it is relative to, innermost first.

    Shown as one absolute path.
    """

    @classmethod
    def show(cls, parts: list[str], truncated: bool) -> Any:
        if not parts:
            return ""
        given, names = parts[0], parts[1:]
        if not names:
            return given + ("..." if truncated else "")
        base = "/".join(reversed([name for name in names if name != "/"]))
        root = "..." if truncated else ""  # the names nearest to the root are the ones that were cut
        return f"{root}/{base}/{given}" if base else f"{root}/{given}"


Comm: Any = Str.of(16)
"""A task's name: TASK_COMM_LEN is 16 in every kernel since 2.6."""

_Sized._made[Str, 16] = Comm


def is_enum(kind: Any) -> bool:
    """Whether ``kind`` is an ``enum.IntEnum`` class (without importing :mod:`enum`)."""
    return isinstance(kind, type) and issubclass(kind, int) and hasattr(kind, "__members__")


class Field:
    """One field of a :class:`Layout`: ``offset`` and ``size`` in bytes; a tail's size is its largest."""

    __slots__ = ("name", "offset", "size", "type")

    def __init__(self, name: str, type: Any, offset: int, size: int) -> None:
        self.name = name
        self.type = type
        self.offset = offset
        self.size = size


class Layout:
    """How a structure lies in memory: as C would lay it out.

    ``tail`` is the field of variable length that ends it, if any; ``fixed``
    counts the bytes before the tail (with a ``Strs`` tail four of them hold
    the number of strings, and bit 31 whether some were cut; with ``Data`` the
    number of bytes).
    """

    __slots__ = ("align", "fields", "fixed", "size", "tail")

    def __init__(self, fields: list[Field], size: int, align: int, tail: Field | None, fixed: int) -> None:
        self.fields = fields
        self.size = size
        self.align = align
        self.tail = tail
        self.fixed = fixed

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)


def size_align(kind: Any) -> tuple[int, int]:
    """Size and alignment of ``kind`` in bytes; TypeError where it is no type of the kernel half."""
    if kind is bool:
        return 1, 1
    if kind is int:
        return 8, 8
    if isinstance(kind, tuple):
        layout = tuple_layout(kind)
        return layout.size, layout.align
    if isinstance(kind, type):
        if is_enum(kind):
            return 4, 4
        if issubclass(kind, Int):
            return kind.size, kind.size
        if issubclass(kind, Address):
            return 8, 8
        if issubclass(kind, (Str, Bytes)):
            return kind.n, 1
        if issubclass(kind, Array):
            size, align = size_align(kind.elem)
            return size * kind.n, align
        if issubclass(kind, Event):
            layout = kind.layout()
            if layout.tail is not None:
                raise TypeError(f"{kind.__name__} ends in a field of variable length, so it cannot be part of another")
            return layout.size, layout.align
    raise TypeError(f"{getattr(kind, '__name__', kind)!s} is not a type that the kernel half knows")


def has_count(kind: Any) -> bool:
    """Whether ``kind`` is a tail that has a number before it: how much there is of it."""
    return isinstance(kind, type) and issubclass(kind, (Strs, Data))


VARIABLE_STR = 256
"""A ``Str`` of this many bytes or more, as the last field of an event, is sent with its real length."""


def lay_out(fields: list[tuple[str, Any]], *, event: bool = True) -> Layout:
    """Lay out ``(name, type)`` pairs as C does; TypeError for a misplaced variable field or a foreign type."""
    out: list[Field] = []
    offset, biggest = 0, 1
    tail: Field | None = None
    for at, (name, kind) in enumerate(fields):
        last = at == len(fields) - 1
        if has_count(kind):
            if not last or not event or not kind.n:
                raise TypeError(f"{name}: {kind.__name__} must have a size and be the last field of an event")
            offset = (offset + 3) // 4 * 4 + 4
            biggest = max(biggest, 4)
            tail = Field(name, kind, offset, kind.n)
            out.append(tail)
            break
        size, align = size_align(kind)
        if last and event and isinstance(kind, type) and issubclass(kind, Str) and kind.n >= VARIABLE_STR:
            tail = Field(name, kind, offset, size)
            out.append(tail)
            break
        offset = (offset + align - 1) // align * align
        out.append(Field(name, kind, offset, size))
        offset += size
        biggest = max(biggest, align)
    if tail is not None:
        return Layout(out, tail.offset + tail.size, biggest, tail, tail.offset)
    size = (offset + biggest - 1) // biggest * biggest
    return Layout(out, size, biggest, None, size)


_tuple_layouts: dict[Any, Layout] = {}


def tuple_layout(kinds: tuple[Any, ...]) -> Layout:
    """Layout of a tuple used as a map key: fields ``f0``, ``f1``, …"""
    made = _tuple_layouts.get(kinds)
    if made is None:
        made = lay_out([(f"f{i}", kind) for i, kind in enumerate(kinds)], event=False)
        _tuple_layouts[kinds] = made
    return made


class Event:
    """Base of records: subclass it and annotate the fields.

    One class gives the kernel layout, the decoder, the table's columns and
    the JSON schema.  Instances (``Open(pid=1)``) are what the kernel half
    fills in when it runs as Python, and what maps with such values return.

    Example::

        class Exit(Event):
            pid: u32
            code: s32
            comm: Comm

        exits = Ring(Exit)

        @tracepoint("sched:sched_process_exit")
        def exit(record):
            with exits.reserve() as e:
                e.pid, e.code, e.comm = current.tgid, current.task.exit_code >> 8, current.comm
    """

    __layout__: Layout | None = None

    def __init__(self, **values: Any) -> None:
        for field in self.layout():
            setattr(self, field.name, values.pop(field.name, None))
        for name in values:
            raise TypeError(f"{type(self).__name__} has no field {name!r}")
        for field in self.layout():
            if getattr(self, field.name) is None:
                setattr(self, field.name, zero(field.type))

    def discard(self) -> None:
        """In a ``with ring.reserve()`` block: do not send this event after all."""
        self.discarded = True

    @classmethod
    def layout(cls) -> Layout:
        """The layout, computed at first use."""
        found = cls.__dict__.get("__layout__")
        if found is None:
            found = lay_out(cls.annotated())
            cls.__layout__ = found
        return found

    @classmethod
    def annotated(cls) -> list[tuple[str, Any]]:
        """``(name, type)`` of the fields, inherited ones first."""
        out: list[tuple[str, Any]] = []
        for base in reversed(cls.__mro__[:-1]):
            if base is Event:
                continue
            notes = base.__dict__.get("__annotations__")  # noqa: RUF063 - inspect is too slow to import
            if notes is None:  # Python 3.14 computes them when asked
                notes = getattr(base, "__annotations__", {})
            for name, kind in notes.items():
                if name.startswith("__"):
                    continue
                out.append((name, _evaluate(kind, base) if isinstance(kind, str) else kind))
        if not out:
            raise TypeError(f"{cls.__name__} has no annotated field")
        return out

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


def _evaluate(text: str, owner: type) -> Any:
    """An annotation that ``from __future__ import annotations`` left as text."""
    import sys

    names = vars(sys.modules[owner.__module__])
    try:
        return eval(text, dict(names))  # the author's own module, evaluated as Python would
    except NameError as err:
        raise TypeError(f"{owner.__name__}: {err}; annotations must name types of the module") from None


def zero(kind: Any) -> Any:
    """The value that fresh kernel memory of type ``kind`` reads as."""
    if isinstance(kind, tuple):
        return tuple(zero(k) for k in kind)
    if kind is bool:
        return False
    if kind is int or is_enum(kind) or issubclass(kind, (Int, Address)):
        return 0
    if issubclass(kind, Str):
        return ""
    if issubclass(kind, Bytes):
        return bytes(kind.n)
    if issubclass(kind, Array):
        return [zero(kind.elem) for _ in range(kind.n)]
    return kind()


class KStruct:
    """Base of *flavours*: how another kernel than the compile-time one lays out a structure.

    Subclass it under the structure's name plus ``___`` and a word, and
    annotate the fields; offsets do not matter, the kernel's are taken when
    the program is loaded.  ``cast(task, task_struct___old).state``.

    Example::

        class task_struct___before_5_14(KStruct):
            state: s64

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            if exists(cast(current.task, task_struct___before_5_14).state):
                print("this kernel is older than 5.14")
            else:
                print("this kernel is 5.14 or newer")
    """
