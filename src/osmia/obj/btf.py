# SPDX-License-Identifier: Apache-2.0
"""BTF, the kernel's compact type information, read without decoding it all.

The BTF of a kernel is 5 MB and more than 100,000 types, and a tool needs a
dozen of them.  So a :class:`Btf` is a view over the bytes: an index (an array
of word offsets, which a caller can keep on disk and hand back) says where
each type starts, a search goes through the string table with ``bytes.find``,
and a type is decoded when it is first asked for.

Format: ``Documentation/bpf/btf.rst`` and ``include/uapi/linux/btf.h``.
"""

from __future__ import annotations

import struct

from osmia.errors import UserError
from osmia.obj.consts import (
    BTF_KIND_ARRAY,
    BTF_KIND_CONST,
    BTF_KIND_DATASEC,
    BTF_KIND_DECL_TAG,
    BTF_KIND_ENUM,
    BTF_KIND_ENUM64,
    BTF_KIND_FLOAT,
    BTF_KIND_FUNC,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_FWD,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    BTF_KIND_RESTRICT,
    BTF_KIND_STRUCT,
    BTF_KIND_TYPE_TAG,
    BTF_KIND_TYPEDEF,
    BTF_KIND_UNION,
    BTF_KIND_UNKN,
    BTF_KIND_VAR,
    BTF_KIND_VOLATILE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

MAGIC = 0xEB9F
# Words after the three of struct btf_type, fixed and per vlen element.
_EXTRA = {
    BTF_KIND_INT: (1, 0), BTF_KIND_PTR: (0, 0), BTF_KIND_ARRAY: (3, 0), BTF_KIND_STRUCT: (0, 3),
    BTF_KIND_UNION: (0, 3), BTF_KIND_ENUM: (0, 2), BTF_KIND_FWD: (0, 0), BTF_KIND_TYPEDEF: (0, 0),
    BTF_KIND_VOLATILE: (0, 0), BTF_KIND_CONST: (0, 0), BTF_KIND_RESTRICT: (0, 0), BTF_KIND_FUNC: (0, 0),
    BTF_KIND_FUNC_PROTO: (0, 2), BTF_KIND_VAR: (1, 0), BTF_KIND_DATASEC: (0, 3), BTF_KIND_FLOAT: (0, 0),
    BTF_KIND_DECL_TAG: (1, 0), BTF_KIND_TYPE_TAG: (0, 0), BTF_KIND_ENUM64: (0, 3),
}
KIND_NAMES = (
    "void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile", "const", "restrict",
    "func", "func_proto", "var", "datasec", "float", "decl_tag", "type_tag", "enum64",
)
_MODIFIERS = frozenset((
    BTF_KIND_TYPEDEF, BTF_KIND_VOLATILE, BTF_KIND_CONST, BTF_KIND_RESTRICT, BTF_KIND_TYPE_TAG, BTF_KIND_DECL_TAG,
))
_SIZED = frozenset((
    BTF_KIND_INT, BTF_KIND_STRUCT, BTF_KIND_UNION, BTF_KIND_ENUM, BTF_KIND_DATASEC, BTF_KIND_FLOAT, BTF_KIND_ENUM64,
))
_COMPOSITE = frozenset((BTF_KIND_STRUCT, BTF_KIND_UNION))
_MAX_DEPTH = 64  # of typedef chains and nested anonymous members; real ones stay under ten
_UNKNOWN = 1 << 48  # a step that takes the walk past any end


class _Steps(dict[int, int]):
    """Words from one type to the next, by the type's second word: kind, number of elements, a flag.

    128 kinds, and 24 bits for the number of elements: the bits above the
    classic 32 kinds and 16 bits were always zero.
    """

    def __missing__(self, info: int) -> int:
        fixed, each = _EXTRA.get(info >> 24 & 0x7F, (_UNKNOWN, 0))
        step = self[info] = 3 + fixed + (info & 0xFFFFFF) * each
        return step


_STEPS = _Steps()
_STRIDE = 1 << 14  # words that are walked at once, about 2,700 types
#: Bytes of a mmap that are searched at once, and how much of the next piece they include.
_PIECE, _OVERLAP = 1 << 18, 256


class Member:
    """One member of a struct or union; ``bitfield_size`` is 0 for what is not a bit field."""

    __slots__ = ("bit_offset", "bitfield_size", "name", "type_id")

    def __init__(self, name: str, type_id: int, bit_offset: int, bitfield_size: int = 0) -> None:
        self.name = name
        self.type_id = type_id
        self.bit_offset = bit_offset
        self.bitfield_size = bitfield_size

    def __repr__(self) -> str:
        return f"Member({self.name!r}, {self.type_id}, {self.bit_offset}, {self.bitfield_size})"


class Type:
    """One decoded type.

    ``size`` is in bytes (0 for kinds without one), ``type_id`` what the type
    refers to (pointee, typedef target, a function's prototype, a prototype's
    return type).  ``encoding`` (1 signed, 2 char, 4 bool), ``bits`` and
    ``offset`` are an INT's; ``nelems``, ``elem_id`` and ``index_id`` an
    ARRAY's; ``linkage`` a VAR's or FUNC's (0 static, 1 global, 2 extern);
    ``variables`` a DATASEC's ``(type_id, offset, size)``; ``component`` a
    DECL_TAG's index.
    """

    __slots__ = (
        "bits", "component", "elem_id", "encoding", "enumerators", "id", "index_id", "kind", "kind_flag", "linkage",
        "members", "name", "nelems", "offset", "params", "size", "type_id", "variables", "vlen",
    )

    def __init__(self, id: int, kind: int, name: str, vlen: int = 0, kind_flag: bool = False) -> None:
        self.id = id
        self.kind = kind
        self.name = name
        self.vlen = vlen
        self.kind_flag = kind_flag
        self.size = self.type_id = self.linkage = 0
        self.encoding = self.bits = self.offset = 0
        self.nelems = self.elem_id = self.index_id = 0
        self.component = -1
        self.members: list[Member] = []
        self.enumerators: list[tuple[str, int]] = []
        self.params: list[tuple[str, int]] = []
        self.variables: list[tuple[int, int, int]] = []

    @property
    def signed(self) -> bool:
        """Whether an INT or enumeration holds negative numbers."""
        if self.kind == BTF_KIND_INT:
            return bool(self.encoding & 1)
        return self.kind in (BTF_KIND_ENUM, BTF_KIND_ENUM64) and self.kind_flag

    def __repr__(self) -> str:
        kind = KIND_NAMES[self.kind] if self.kind < len(KIND_NAMES) else str(self.kind)
        return f"<Type {self.id} {kind} {self.name!r}>"


class Btf:
    """Types by id and by name, over the raw bytes of a ``.BTF`` section or of ``/sys/kernel/btf/*``.

    ``base`` is the BTF that a split BTF (a kernel module's) continues;
    ``name`` is for messages.  Raises :class:`UserError` for bytes that are
    not BTF of this byte order.
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview | mmap.mmap,
        base: Btf | None = None,
        name: str = "BTF",
    ) -> None:
        self.name = name
        self.base = base
        # find() is wanted, and a memoryview has none.
        self._raw: bytes | bytearray | mmap.mmap = bytes(data) if isinstance(data, memoryview) else data
        self._parse_header()
        self.start_id = base.end_id if base else 1
        self._str_start = base.string_end if base else 0
        self.string_end: int = self._str_start + self._str_len
        self._index: list[int] = []  # word offsets of the types up to `_next`
        self._next = 0
        self._pieces: dict[int, bytes] = {}
        self._types: dict[int, Type] = {}
        self._found: dict[tuple[str, tuple[int, ...] | int], int] = {}

    def _bad(self, what: str) -> UserError:
        return UserError(f"damaged or foreign type information: {what}", where=self.name)

    def _parse_header(self) -> None:
        raw = self._raw
        total = len(raw)
        if total < 24:
            raise self._bad(f"{total} bytes are too few for a BTF header")
        magic, version, _, hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", raw)
        if magic == 0x9FEB:
            raise self._bad("its byte order is big-endian, this reader handles little-endian")
        if magic != MAGIC:
            raise self._bad("it does not start with the BTF magic number")
        if version != 1:
            raise self._bad(f"version {version} is not known")
        self.type_start = hdr_len + type_off
        self._str_raw = hdr_len + str_off
        self._str_len = str_len
        if hdr_len < 24 or type_len % 4 or self.type_start % 4:
            raise self._bad("the header is inconsistent")
        if self.type_start + type_len > total or self._str_raw + str_len > total:
            raise self._bad("it is cut short")
        if str_len and raw[self._str_raw + str_len - 1]:
            raise self._bad("its strings do not end")
        self.type_end = self.type_start + type_len
        self._words = memoryview(raw)[self.type_start : self.type_end].cast("I")

    # -- where types are ---------------------------------------------------

    def word_offsets(self) -> list[int]:
        """Word offset (within the type section) of each own type, in id order; 15-20 ms for a kernel."""
        return self._known(len(self._words))

    def _known(self, count: int, word: int = -1) -> list[int]:
        """The offsets of the first ``count`` types at least, and of all up to the word offset ``word``.

        Types have no table of their own: each tells where the next begins.
        What a program is about stands near the beginning of a kernel's types
        (``task_struct`` is number 114 of 126,000), so a walk that ends where
        enough is known takes a tenth of the time.
        """
        index, words, pos = self._index, self._words, self._next
        end = len(words)
        append, steps = index.append, _STEPS
        try:
            while pos < end and (len(index) < count or pos <= word):
                limit = min(end, pos + _STRIDE)
                while pos < limit:
                    append(pos)
                    pos += steps[words[pos + 1]]
        except IndexError:
            pos = end + 1
        self._next = pos
        if pos >= _UNKNOWN:
            kind = words[index[-1] + 1] >> 24 & 0x7F
            raise UserError(
                f"type {self.start_id + len(index) - 1} is of kind {kind}, which this version does not know",
                where=self.name, fix="a newer osmia may know it",
            )
        if pos > end:
            raise self._bad("the last type is cut short")
        return index

    @property
    def end_id(self) -> int:
        """One more than the highest type id."""
        return self.start_id + len(self.word_offsets())

    def __len__(self) -> int:
        return self.end_id

    def ids(self) -> range:
        """Own type ids (a split BTF's without its base's)."""
        return range(self.start_id, self.end_id)

    # -- strings -----------------------------------------------------------

    def string(self, off: int) -> str:
        """The string at ``off`` of the string table (a split BTF's continues its base's)."""
        if off < self._str_start and self.base is not None:
            return self.base.string(off)
        start = self._str_raw + off - self._str_start
        if not 0 <= off - self._str_start < self._str_len:
            if off == 0:
                return ""
            raise self._bad(f"string offset {off} is out of range")
        # The table ends in NUL, so find cannot run past it.
        return self._raw[start : self._raw.find(b"\0", start)].decode("utf-8", "replace")

    def _string_offsets(self, text: bytes, *, prefix: bool = False) -> Iterator[int]:
        """Offsets of the string ``text`` (or of all that start with it), own and base's, each searched when asked for.

        A kernel's table holds each string once, so what follows the first hit is a search of megabytes for nothing.
        """
        if self.base is not None:
            yield from self.base._string_offsets(text, prefix=prefix)
        raw = self._raw
        begin, end = self._str_raw, self._str_raw + self._str_len
        needle = text if prefix else text + b"\0"
        # A split table has no leading empty string: its first one has no NUL before it.
        if raw[begin : begin + len(needle)] == needle:
            yield self._str_start
        needle = b"\0" + needle
        pos = self._search(needle, begin, end)
        while pos >= 0:
            yield self._str_start + pos + 1 - begin
            pos = self._search(needle, pos + 1, end)

    def _search(self, needle: bytes, start: int, end: int) -> int:
        """Where ``needle`` is first between ``start`` and ``end``; -1.

        ``find`` of a mmap compares byte by byte, twenty times slower than that
        of bytes; so pieces are copied, as far as a search has to go.
        """
        if len(needle) > _OVERLAP and not isinstance(self._raw, (bytes, bytearray)):
            self._raw = self._raw[:]
        if isinstance(self._raw, (bytes, bytearray)):
            return self._raw.find(needle, start, end)
        while start < end:
            first = start & -_PIECE
            piece = self._pieces.get(first)
            if piece is None:
                piece = self._pieces[first] = self._raw[first : first + _PIECE + _OVERLAP]
            pos = piece.find(needle, start - first, end - first)
            if pos >= 0:
                return first + pos
            start = first + _PIECE
        return -1

    # -- types -------------------------------------------------------------

    def kind_of(self, id: int) -> int:
        """The BTF_KIND_* of a type, without decoding it."""
        if id < self.start_id:
            return self.base.kind_of(id) if self.base is not None and id else BTF_KIND_UNKN
        return self._words[self._word(id) + 1] >> 24 & 0x7F

    def _word(self, id: int) -> int:
        number = id - self.start_id
        index = self._index
        if number >= len(index):
            index = self._known(number + 1)
        if not 0 <= number < len(index):
            raise self._bad(f"there is no type {id}")
        return index[number]

    def get(self, id: int) -> Type:
        """The type of that id, decoded once; id 0 is ``void``."""
        if id < self.start_id:
            if self.base is not None and id:
                return self.base.get(id)
            if id == 0:
                return Type(0, BTF_KIND_UNKN, "void")
        found = self._types.get(id)
        if found is None:
            try:
                found = self._types[id] = self._decode(id)
            except IndexError:
                raise self._bad(f"type {id} is cut short") from None
        return found

    def _decode(self, id: int) -> Type:
        w = self._words
        pos = self._word(id)
        name_off, info, last = w[pos], w[pos + 1], w[pos + 2]
        kind, vlen = info >> 24 & 0x7F, info & 0xFFFFFF
        t = Type(id, kind, self.string(name_off), vlen, bool(info >> 31))
        if kind in _SIZED:
            t.size = last
        else:
            t.type_id = last
        pos += 3
        decode = _DECODERS.get(kind)
        if decode is not None:
            decode(self, t, w, pos)
        elif kind not in _EXTRA:
            raise self._bad(f"type {id} is of unknown kind {kind}")
        return t

    def find(self, name: str, kinds: tuple[int, ...] | int) -> int:
        """The first type of that name and of one of those kinds; 0 when there is none.

        A split BTF is searched before its base.  Half a millisecond in a
        kernel's BTF, and what the walk to there takes the first time; 4 ms
        to learn that it has none.  Asked for again, it is known.
        """
        found = self._found.get((name, kinds))
        if found is None:
            found = self._found[name, kinds] = next(self.find_all(name, kinds), 0)
        return found

    def find_all(self, name: str, kinds: tuple[int, ...] | int, *, flavours: bool = False) -> Iterator[int]:
        """Every type of that name and of one of those kinds, own ones first.

        ``flavours`` adds the types named ``name___anything``, which CO-RE
        takes for the same type.
        """
        if not name:
            return
        wanted = (kinds,) if isinstance(kinds, int) else kinds
        for off in self._string_offsets(name.encode()):
            yield from self._named(off, wanted)
        if flavours:
            for off in self._string_offsets(name.encode() + b"___", prefix=True):
                yield from self._named(off, wanted)
        if self.base is not None:
            yield from self.base.find_all(name, kinds, flavours=flavours)

    def _named(self, off: int, kinds: tuple[int, ...]) -> Iterator[int]:
        from _bisect import bisect_left

        words = self._words
        needle = off.to_bytes(4, "little")
        start, end = self.type_start, self.type_end
        pos = self._search(needle, start, end)
        while pos >= 0:
            word, odd = divmod(pos - start, 4)
            # An aligned hit may be a member's or a parameter's name: the index tells.
            if not odd and word + 1 < len(words) and words[word + 1] >> 24 & 0x7F in kinds:
                index = self._known(0, word)
                i = bisect_left(index, word)
                if i < len(index) and index[i] == word:
                    yield self.start_id + i
            pos = self._search(needle, pos + 1, end)

    def find_prefix(self, prefix: str, kinds: tuple[int, ...] = (BTF_KIND_STRUCT,)) -> list[tuple[str, int]]:
        """``(name, id)`` of each own type whose name starts with ``prefix``, in id order; a full pass, 20 ms."""
        offsets = frozenset(self._string_offsets(prefix.encode(), prefix=True))
        words, first = self._words, self.start_id
        hits = [(i, word) for i, word in enumerate(self.word_offsets()) if words[word] in offsets]
        return [(self.string(words[word]), first + i) for i, word in hits if words[word + 1] >> 24 & 0x7F in kinds]

    # -- questions about types ---------------------------------------------

    def resolve(self, id: int) -> int:
        """The type behind typedefs, const, volatile, restrict and tags."""
        for _ in range(_MAX_DEPTH):
            t = self.get(id)
            if t.kind not in _MODIFIERS:
                return id
            id = t.type_id
        raise self._bad(f"type {id} refers to itself")

    def size_of(self, id: int) -> int:
        """Size in bytes: pointers 8, void and functions 0."""
        count = 1
        for _ in range(_MAX_DEPTH):
            id = self.resolve(id)
            t = self.get(id)
            if t.kind == BTF_KIND_ARRAY:
                count *= t.nelems
                id = t.elem_id
            elif t.kind == BTF_KIND_PTR:
                return 8 * count
            elif t.kind == BTF_KIND_VAR:
                id = t.type_id
            else:
                return t.size * count
        raise self._bad(f"type {id} refers to itself")

    def find_member(self, struct_id: int, name: str) -> tuple[list[Member], int] | None:
        """The way to member ``name``, through anonymous structs and unions, and its bit offset from the start."""
        return self._find_member(self.resolve(struct_id), name, 0)

    def _find_member(self, struct_id: int, name: str, depth: int) -> tuple[list[Member], int] | None:
        t = self.get(struct_id)
        if t.kind not in _COMPOSITE or depth > _MAX_DEPTH:
            return None
        for m in t.members:
            if m.name == name:
                return [m], m.bit_offset
        for m in t.members:
            if not m.name:
                found = self._find_member(self.resolve(m.type_id), name, depth + 1)
                if found is not None:
                    return [m, *found[0]], m.bit_offset + found[1]
        return None

    def name_of(self, id: int) -> str:
        """The type as C writes it: ``struct task_struct *``, ``char[16]``, ``int (*)(void *)``."""
        from osmia.obj.btf_text import declare

        return declare(self, id, "")


def _decode_int(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    word = w[pos]
    t.encoding, t.offset, t.bits = word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFF


def _decode_array(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.elem_id, t.index_id, t.nelems = w[pos], w[pos + 1], w[pos + 2]
    t.type_id = 0


def _decode_members(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    string, flagged = btf.string, t.kind_flag
    for i in range(pos, pos + 3 * t.vlen, 3):
        word = w[i + 2]
        if flagged:
            t.members.append(Member(string(w[i]), w[i + 1], word & 0xFFFFFF, word >> 24))
        else:
            t.members.append(Member(string(w[i]), w[i + 1], word, _old_bitfield(btf, w[i + 1])))


def _old_bitfield(btf: Btf, type_id: int) -> int:
    """Bit field size of BTF from before the kind flag: an INT of fewer bits than its bytes hold."""
    for _ in range(_MAX_DEPTH):
        # Only the header words are read, so that decoding one struct does not decode its members' types.
        kind = btf.kind_of(type_id)
        if kind not in _MODIFIERS:
            break
        type_id = btf.get(type_id).type_id
    else:
        return 0
    if kind != BTF_KIND_INT:
        return 0
    t = btf.get(type_id)
    return t.bits if t.bits != t.size * 8 else 0


def _decode_enum(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    for i in range(pos, pos + 2 * t.vlen, 2):
        value = w[i + 1]
        t.enumerators.append((btf.string(w[i]), value - (1 << 32) if t.kind_flag and value >> 31 else value))


def _decode_enum64(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    for i in range(pos, pos + 3 * t.vlen, 3):
        value = w[i + 1] | w[i + 2] << 32
        t.enumerators.append((btf.string(w[i]), value - (1 << 64) if t.kind_flag and value >> 63 else value))


def _decode_proto(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.params = [(btf.string(w[i]), w[i + 1]) for i in range(pos, pos + 2 * t.vlen, 2)]


def _decode_func(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.linkage = t.vlen


def _decode_var(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.linkage = w[pos]


def _decode_datasec(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.variables = [(w[i], w[i + 1], w[i + 2]) for i in range(pos, pos + 3 * t.vlen, 3)]


def _decode_decl_tag(btf: Btf, t: Type, w: memoryview[int], pos: int) -> None:
    t.component = w[pos] - (1 << 32) if w[pos] >> 31 else w[pos]


_DECODERS = {
    BTF_KIND_INT: _decode_int, BTF_KIND_ARRAY: _decode_array, BTF_KIND_STRUCT: _decode_members,
    BTF_KIND_UNION: _decode_members, BTF_KIND_ENUM: _decode_enum, BTF_KIND_ENUM64: _decode_enum64,
    BTF_KIND_FUNC_PROTO: _decode_proto, BTF_KIND_FUNC: _decode_func, BTF_KIND_VAR: _decode_var,
    BTF_KIND_DATASEC: _decode_datasec, BTF_KIND_DECL_TAG: _decode_decl_tag,
}
