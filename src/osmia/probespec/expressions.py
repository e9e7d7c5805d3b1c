# SPDX-License-Identifier: Apache-2.0
"""Expressions as bcc takes them, in C, and with Python's words: ``and``, ``or``, ``not``, ``in``, ``a if b else c``.

One grammar has both.  Where the two languages read the same text
differently, it is refused and not guessed: ``a & b == c`` (C compares first,
Python last) and ``a < b < c``.
"""

from __future__ import annotations

import _ast as ast

from osmia.errors import InternalError
from osmia.probespec import ctypes
from osmia.probespec.tree import AddressOf, Cast, InSpace, SizeOf, Text
from osmia.probespec.words import END, MARK, NAME, NUMBER, STRING, Word, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    N = TypeVar("N", bound=ast.expr)

_LOAD = ast.Load()
_BINARY: dict[str, type[ast.operator]] = {
    "|": ast.BitOr, "^": ast.BitXor, "&": ast.BitAnd, "<<": ast.LShift, ">>": ast.RShift, "+": ast.Add, "-": ast.Sub,
    "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod,
}  # fmt: skip
_COMPARE: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE,
}  # fmt: skip
#: Operators by precedence, the loosest first.
_LEVELS = (
    ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "//", "%"),
)  # fmt: skip
_BITS = ("|", "^", "&")
_UNARY: dict[str, type[ast.unaryop]] = {"-": ast.USub, "+": ast.UAdd, "~": ast.Invert, "!": ast.Not}
#: Names that are no values: the words of the grammar itself.
_WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else"))
_CONSTANTS = {"NULL": 0, "true": 1, "false": 0, "True": 1, "False": 0, "None": 0}
_MOST_NESTED = 40


class Parser:
    """The words of one expression, or of several between commas, with a place among them."""

    def __init__(self, source: Text, start: int, end: int) -> None:
        self.source = source
        self.words = words(source, start, end)
        self.at = 0
        self._depth = 0
        self._bare: set[int] = set()  # comparisons that no parentheses stand around
        self._compared: list[ast.expr] = []  # they live as long as the parser: their identity is asked for

    # -- the words

    @property
    def word(self) -> Word:
        return self.words[self.at]

    def next(self) -> Word:
        word = self.words[self.at]
        self.at += word.kind != END
        return word

    def is_mark(self, *marks: str) -> bool:
        return self.word.kind == MARK and self.word.text in marks

    def is_name(self, *names: str) -> bool:
        return self.word.kind == NAME and self.word.text in names

    def take(self, mark: str) -> bool:
        """Go past ``mark``, if it is there."""
        if self.is_mark(mark):
            self.at += 1
            return True
        return False

    def expect(self, mark: str, why: str) -> Word:
        if not self.is_mark(mark):
            self.fail(self.word, f"{mark!r} is missing here", why)
        return self.next()

    def fail(self, word: Word, what: str, fix: str = "") -> NoReturn:
        if word.kind == END and word.start:
            self.source.fail(word.start - (word.start >= len(self.source.text)), word.end, what, fix)
        self.source.fail(word.start, word.end, what, fix)

    def ended(self) -> bool:
        return self.word.kind == END

    def place(self, node: N, start: Word | ast.expr, end: Word | ast.expr | None = None) -> N:
        """Say where ``node`` stands."""
        last = self.words[max(0, self.at - 1)] if end is None else end
        if isinstance(start, Word):
            node.lineno, node.col_offset = self.source.place(start.start)
        else:
            node.lineno, node.col_offset = start.lineno, start.col_offset
        if isinstance(last, Word):
            node.end_lineno, node.end_col_offset = self.source.place(last.end)
        else:
            node.end_lineno, node.end_col_offset = last.end_lineno, last.end_col_offset
        return node

    # -- the grammar

    def whole(self) -> ast.expr:
        """The expression that all the words are.  Raises CompileError."""
        if self.ended():
            self.fail(self.word, "an expression is missing here", "as in arg1, or args->name")
        made = self.expression()
        if not self.ended():
            self._surplus()
        return made

    def several(self) -> list[ast.expr]:
        """Expressions with commas between them; none where there are no words."""
        out = []
        while not self.ended():
            out.append(self.expression())
            if self.ended():
                break
            if not self.take(","):
                self._surplus()
            if self.ended():
                self.fail(self.word, "an expression is missing after the comma")
        return out

    def _surplus(self) -> NoReturn:
        word = self.word
        fix = {"=": "== compares", ")": "there is no ( for it"}.get(word.text, "an operator or a comma may be missing")
        self.fail(word, f"{word.text!r} is not expected here", fix)

    def expression(self) -> ast.expr:
        start = self.word
        made = self._or()
        if self.take("?"):
            yes = self.expression()
            self.expect(":", "CONDITION ? VALUE : OTHER")
            made = self.place(ast.IfExp(test=made, body=yes, orelse=self.expression()), start)
        elif self.is_name("if"):
            self.next()
            test = self._or()
            if not self.is_name("else"):
                self.fail(self.word, "'else' is missing here", "VALUE if CONDITION else OTHER")
            self.next()
            made = self.place(ast.IfExp(test=test, body=made, orelse=self.expression()), start)
        return made

    def _or(self) -> ast.expr:
        return self._words_between(("||", "or"), ast.Or(), self._and)

    def _and(self) -> ast.expr:
        return self._words_between(("&&", "and"), ast.And(), self._not)

    def _words_between(self, signs: tuple[str, str], op: ast.boolop, part: Any) -> ast.expr:
        start = self.word
        values = [part()]
        while self.is_mark(signs[0]) or self.is_name(signs[1]):
            self.next()
            values.append(part())
        return values[0] if len(values) == 1 else self.place(ast.BoolOp(op=op, values=values), start)

    def _not(self) -> ast.expr:
        if self.is_name("not"):
            start = self.next()
            return self.place(ast.UnaryOp(op=ast.Not(), operand=self._not()), start)
        return self._level(0)

    def _level(self, level: int) -> ast.expr:
        """Operators of one precedence and of those that bind tighter."""
        if level == len(_LEVELS):
            return self._unary()
        start, signs = self.word, _LEVELS[level]
        left = self._level(level + 1)
        if "<" in signs:
            left = self._belongs(start, left)
        while self.is_mark(*signs):
            sign = self.next()
            right = self._level(level + 1)
            if sign.text in _COMPARE:
                left = self._comparison(sign, left, right)
                continue
            if sign.text in _BITS and (id(left) in self._bare or id(right) in self._bare):
                self.fail(sign, f"without parentheses it is not clear what {sign.text} belongs to",
                          "C compares first and Python last: write (a & b) == c")
            left = self.place(ast.BinOp(left=left, op=_BINARY[sign.text](), right=right), start)
        return left

    def _comparison(self, sign: Word, left: ast.expr, right: ast.expr) -> ast.expr:
        if id(left) in self._bare or id(right) in self._bare:
            self.fail(sign, "comparisons in a row mean one thing in C and another in Python",
                      "write a < b && b < c, or use parentheses")
        made = self.place(ast.Compare(left=left, ops=[_COMPARE[sign.text]()], comparators=[right]), left, right)
        self._bare.add(id(made))
        self._compared.append(made)
        return made

    def _belongs(self, start: Word, left: ast.expr) -> ast.expr:
        """``left in (…)``, ``left not in (…)``, ``left is None``, or ``left``."""
        negative = False
        if self.is_name("in") or (self.is_name("not") and self.words[self.at + 1].text == "in"):
            negative = self.next().text == "not"
            if negative:
                self.next()
            op: ast.cmpop = ast.NotIn() if negative else ast.In()
            return self.place(ast.Compare(left=left, ops=[op], comparators=[self._level(5)]), start)
        if self.is_name("is"):
            self.next()
            if self.is_name("not"):
                self.next()
                negative = True
            if not self.is_name("None"):
                self.fail(self.word, "`is` compares with None only", "use ==")
            none, same = self._primary(), ast.NotEq() if negative else ast.Eq()
            return self.place(ast.Compare(left=left, ops=[same], comparators=[none]), start)
        return left

    def _unary(self) -> ast.expr:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            self.fail(self.word, "this is nested too deeply")
        made = self._signed()
        self._depth -= 1
        return made

    def _signed(self) -> ast.expr:
        word = self.word
        if word.kind == MARK and word.text in _UNARY:
            self.next()
            return self.place(ast.UnaryOp(op=_UNARY[word.text](), operand=self._unary()), word)
        if self.take("&"):
            return self.place(AddressOf(self._unary()), word)
        if self.take("*"):
            zero = self.place(ast.Constant(value=0), word, word)
            return self.place(ast.Subscript(value=self._unary(), slice=zero, ctx=_LOAD), word)
        if self.is_mark("(") and self._is_cast():
            self.next()
            kind, user = self.type_name()
            self.expect(")", "a cast is (TYPE)VALUE")
            return self.place(Cast(self._unary(), kind, user), word)
        return self._postfix()

    def _is_cast(self) -> bool:
        """Whether the parenthesis here holds the name of a type."""
        name = self.words[self.at + 1]
        if name.kind != NAME or name.text in _WORDS:
            return False
        if ctypes.is_type(name.text):
            return True
        # A type that only the kernel knows: (name) or (name *) before a value.
        at = self.at + 2
        while self.words[at].text == "*" and self.words[at].kind == MARK:
            at += 1
        if self.words[at].text != ")" or self.words[at].kind != MARK:
            return False
        after = self.words[at + 1]
        return after.kind in (NUMBER, STRING) or (after.kind == NAME and after.text not in _WORDS)

    def type_name(self) -> tuple[str, bool]:
        """A type: ``(as C spells it, without qualifiers, whether it says __user)``."""
        start, user = self.word, False
        names: list[str] = []
        while self.word.kind == NAME and (not names or names[-1] in ctypes.TAGS or self._continues(names)):
            word = self.next()
            user = user or word.text == "__user"
            if word.text not in ctypes.QUALIFIERS:
                names.append(word.text)
        stars = ""
        while self.is_mark("*") or (self.word.kind == NAME and self.word.text in ctypes.QUALIFIERS):
            word = self.next()
            user = user or word.text == "__user"
            stars += "*" if word.text == "*" else ""
        if not names or names[-1] in ctypes.TAGS:
            self.fail(start if not names else self.word, "the name of a type is missing here",
                      "as in int, or struct sock *")
        return " ".join(names) + (" " + stars if stars else ""), user

    def _continues(self, names: list[str]) -> bool:
        """Whether the next word belongs to the type's name, too: ``unsigned long``, ``const``."""
        text = self.word.text
        return text in ctypes.QUALIFIERS or (text in ctypes.WORDS and names[-1] in ctypes.WORDS)

    def _postfix(self) -> ast.expr:
        start = self.word
        made = self._primary()
        while True:
            if self.is_mark("->", "."):
                self.next()
                if self.word.kind != NAME:
                    self.fail(self.word, "the name of a field is missing here")
                made = self.place(ast.Attribute(value=made, attr=self.next().text, ctx=_LOAD), start)
            elif self.take("["):
                index = self.expression()
                self.expect("]", "an element is written ARRAY[INDEX]")
                made = self.place(ast.Subscript(value=made, slice=index, ctx=_LOAD), start)
            elif self.take("("):
                made = self._call(start, made)
            elif self.take("@"):
                if not self.is_name("user", "kernel"):
                    self.fail(self.word, "@ is followed by user or kernel", "as in arg2@user")
                word = self.next()
                made = self.place(InSpace(made, word.text), start)
            else:
                return made

    def _call(self, start: Word, function: ast.expr) -> ast.expr:
        if isinstance(function, ast.Name) and function.id == "sizeof" and self._type_here():
            kind = self.type_name()[0]
            self.expect(")", "sizeof(TYPE)")
            return self.place(SizeOf(kind), start)
        args: list[ast.expr] = []
        while not self.is_mark(")"):
            args.append(self.expression())
            if not self.take(","):
                break
        self.expect(")", "the arguments end with it")
        return self.place(ast.Call(func=function, args=args, keywords=[]), start)

    def _type_here(self) -> bool:
        return self.word.kind == NAME and ctypes.is_type(self.word.text)

    def _primary(self) -> ast.expr:
        word = self.next()
        if word.kind == NUMBER:
            made = ast.Constant(value=word.value, kind=word.suffix or ("x" if word.text[:2] in ("0x", "0X") else None))
            return self.place(made, word)
        if word.kind == STRING:
            return self.place(ast.Constant(value=word.text), word)
        if word.kind == NAME and word.text in _CONSTANTS:
            return self.place(ast.Constant(value=_CONSTANTS[word.text]), word)
        if word.kind == NAME and word.text not in _WORDS:
            return self.place(ast.Name(id=word.text, ctx=_LOAD), word)
        if word.kind == MARK and word.text == "(":
            return self._parenthesis(word)
        self.at -= word.kind != END
        what = "a value is missing here" if word.kind == END else f"{word.text!r} stands where a value is expected"
        self.fail(word, what)

    def _parenthesis(self, start: Word) -> ast.expr:
        made = self.expression()
        if self.is_mark(","):  # a tuple, for `in`
            items = [made]
            while self.take(",") and not self.is_mark(")"):
                items.append(self.expression())
            made = ast.Tuple(elts=items, ctx=_LOAD)
        self.expect(")", "each ( needs one")
        self._bare.discard(id(made))
        return self.place(made, start)


def expression(source: Text, start: int, end: int) -> ast.expr:
    """The expression between ``start`` and ``end``.  Raises CompileError."""
    if start > end:
        raise InternalError("an expression ends before it begins")
    return Parser(source, start, end).whole()


def names(node: ast.AST) -> set[str]:
    """Names that an expression mentions."""
    found: set[str] = set()
    rest: list[Any] = [node]
    while rest:
        one = rest.pop()
        if isinstance(one, ast.Name):
            found.add(one.id)
        for field in one._fields:
            child = getattr(one, field, None)
            rest += [c for c in (child if isinstance(child, list) else [child]) if isinstance(c, ast.AST)]
    return found
