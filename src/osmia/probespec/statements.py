# SPDX-License-Identifier: Apache-2.0
"""What trace and argdist take: a place, and what is to be known there.

trace: ``PLACE[(SIGNATURE)] [(FILTER)] ["FORMAT"[, VALUE...]]``.

argdist: ``KIND:FILE:FUNCTION(SIGNATURE)[:TYPE[,TYPE...]:VALUE[,VALUE...][:FILTER]][#LABEL]``.
"""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.probespec import formats
from osmia.probespec.expressions import Parser, expression, names
from osmia.probespec.formats import Format
from osmia.probespec.signatures import Param, parameters
from osmia.probespec.spec import STATIC, TRACEPOINT, WITH_RETURNS, Spec
from osmia.probespec.spec import parse as parse_place
from osmia.probespec.tree import Text
from osmia.probespec.words import END, STRING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ast import expr


class Statement:
    """One specification of trace: where, under which condition, and what to show.

    ``signature`` is None where none was written; ``format`` where nothing is
    to be shown but that the place was reached.
    """

    def __init__(self, source: Text, place: Spec) -> None:
        self.source = source
        self.place = place
        self.signature: list[Param] | None = None
        self.filter: expr | None = None
        self.format: Format | None = None
        self.values: list[expr] = []

    def names(self) -> set[str]:
        """Names that its expressions mention."""
        trees = [*self.values, *([self.filter] if self.filter is not None else [])]
        return {name for tree in trees for name in names(tree)}


class Distribution(Statement):
    """One specification of argdist: ``kinds`` are the types of the values as written.

    ``texts`` are the values as they were typed; ``label`` is empty where there is none.
    """

    def __init__(self, source: Text, place: Spec) -> None:
        super().__init__(source, place)
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.label = ""
        self.default = True

    @property
    def title(self) -> str:
        """What its counts are headed by."""
        return self.label or self.source.text


def statement(text: str, name: str = "probe") -> Statement:
    """A specification of trace.  Raises CompileError, whose place is in ``text``, or OptionError."""
    source = Text(name, text)
    at = len(text) - len(text.lstrip())
    end = at
    while end < len(text) and not text[end].isspace() and text[end] != "(":
        end += 1
    made = Statement(source, _place(source, at, end))
    at = end
    if text[at : at + 1] == "(":
        end = _closing(source, at)
        made.signature = _signature(made, at + 1, end)
        at = end + 1
    at += len(text[at:]) - len(text[at:].lstrip())
    if text[at : at + 1] == "(":
        end = _closing(source, at)
        made.filter = expression(source, at + 1, end)
        at = end + 1
    if text[at:].strip():
        _action(made, at)
    return made


def _place(source: Text, start: int, end: int) -> Spec:
    word = source.text[start:end]
    try:
        spec = parse_place(word, WITH_RETURNS)
        spec.offset  # noqa: B018 - is it a number?
    except OptionError as err:
        source.fail(start, end, err.what, err.fix)
    if spec.offset and spec.returns:
        source.fail(start, end, "a return has no offset", "write p: for an instruction within the function")
    return spec


def _closing(source: Text, at: int) -> int:
    """Where the parenthesis at ``at`` ends; texts between quotes are gone over."""
    depth, text, start = 0, source.text, at
    while at < len(text):
        c = text[at]
        if c in "\"'":
            stop = text.find(c, at + 1)
            while stop > 0 and text[stop - 1] == "\\":
                stop = text.find(c, stop + 1)
            if stop < 0:
                source.fail(at, len(text), f"the text has no second {c}")
            at = stop
        depth += (c == "(") - (c == ")")
        if not depth:
            return at
        at += 1
    source.fail(start, start + 1, "this parenthesis is not closed")


def _signature(made: Statement, start: int, end: int) -> list[Param] | None:
    if not made.source.text[start:end].strip():
        return None
    if made.place.kind in (TRACEPOINT, STATIC):
        what = "args->FIELD" if made.place.kind == TRACEPOINT else "arg1, arg2, ..."
        made.source.fail(start - 1, end + 1, f"a {made.place.kind} has no signature", f"its arguments are {what}")
    return parameters(made.source, start, end)


def _action(made: Statement, at: int) -> None:
    """``"FORMAT"[, VALUE...]``."""
    parser = Parser(made.source, at, len(made.source.text))
    word = parser.word
    if word.kind != STRING:
        parser.fail(word, "a format in quotation marks is expected here", 'as in "%d bytes", arg3')
    parser.next()
    made.format = formats.parse(made.source, word.start, word.end, word.text)
    if not parser.ended():
        if not parser.take(","):
            parser.fail(parser.word, "a comma is missing before the value", '"FORMAT", VALUE, VALUE')
        made.values = parser.several()
    want, have = len(made.format.conversions), len(made.values)
    if want != have:
        parser.source.fail(word.start, word.end, f"the format shows {want} value{'s' * (want != 1)}, and there"
                           f" {'are' if have != 1 else 'is'} {have or 'none'}",
                           "each %d, %s, ... takes one")  # fmt: skip


# --------------------------------------------------------------------------
# argdist


def distribution(text: str, name: str = "specifier") -> Distribution:
    """A specification of argdist.  Raises CompileError, whose place is in ``text``."""
    source = Text(name, text)
    label_at = _split(source, 0, len(text), "#")
    end = label_at[0][1]
    cuts = _split(source, 0, end, ":;")
    if len(cuts) > 3 and cuts[0][1] - cuts[0][0] == 1 and text[0] == "u" and "(" not in text[slice(*cuts[2])]:
        cuts[2:4] = [(cuts[2][0], cuts[3][1])]  # u:FILE:PROVIDER:NAME()
    if len(cuts) < 3:
        source.fail(0, end, "a kind, a file and a function are needed",
                    "as in p:c:malloc(size_t size) or p::vfs_read()")
    start, stop = cuts[0][0], cuts[2][1]
    paren = text.find("(", cuts[2][0], stop)
    made = Distribution(source, _place(source, start, len(text[: paren if paren >= 0 else stop].rstrip())))
    if paren >= 0:
        closing = _closing(source, paren)
        made.signature = _signature(made, paren + 1, closing)
    made.label = text[label_at[1][0] :] if len(label_at) > 1 else ""
    if len(cuts) > 3 and text[cuts[-1][0] - 1] == ";":  # how labels were written once
        made.label = text[slice(*cuts.pop())]
    if len(cuts) > 6:
        source.fail(cuts[6][0] - 1, end, "there is one part too many", "TYPES:VALUES:FILTER, then #LABEL")
    _values(made, cuts)
    return made


def _values(made: Distribution, cuts: list[tuple[int, int]]) -> None:
    """Types, values and filter; without them calls are counted, or what a function returns."""
    source, text = made.source, made.source.text
    made.default = len(cuts) < 5
    if made.default:
        made.kinds = ["int"] if made.place.returns else ["u64"]
        hidden = Text(source.name, "$retval" if made.place.returns else "1")
        made.values = [expression(hidden, 0, len(hidden.text))]
        made.texts = [hidden.text]
        return
    kinds, values = _split(source, *cuts[3], ","), _split(source, *cuts[4], ",")
    for start, end in kinds:
        parser = Parser(source, start, end)
        if parser.word.kind == END:
            source.fail(start - 1, end, "the type of the value is missing here", "as in u64, or char*")
        made.kinds.append(parser.type_name()[0])
        if not parser.ended():
            parser.fail(parser.word, "this does not belong to a type", "types are separated by commas")
    for start, end in values:
        made.values.append(expression(source, start, end))
        made.texts.append(text[start:end].strip())
        if made.texts[-1] == "$COMM" and len(made.texts) <= len(made.kinds):
            made.kinds[len(made.texts) - 1] = "char *"  # a name is text, whatever type bcc's examples give it
    if len(kinds) != len(values):
        source.fail(cuts[4][0], cuts[4][1], f"there {'are' if len(kinds) > 1 else 'is'} {len(kinds)}"
                    f" type{'s' * (len(kinds) > 1)} for {len(values)} value{'s' * (len(values) > 1)}",
                    "each value needs a type: int,u64:arg1,arg2")  # fmt: skip
    if len(cuts) > 5 and text[slice(*cuts[5])].strip():
        made.filter = expression(source, *cuts[5])


def _split(source: Text, start: int, end: int, marks: str) -> list[tuple[int, int]]:
    """The parts between the ``marks`` that stand neither in parentheses nor in texts."""
    text, out, depth, at, begin = source.text, [], 0, start, start
    while at < end:
        c = text[at]
        if c in "\"'":
            stop = text.find(c, at + 1, end)
            if stop < 0:
                source.fail(at, end, f"the text has no second {c}")
            at = stop
        elif c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif c in marks and depth <= 0:
            out.append((begin, at))
            begin = at + 1
            if marks == "#":
                break
        at += 1
    out.append((begin, end))
    return out



