# SPDX-License-Identifier: Apache-2.0
"""Command lines in the manner of GNU getopt.

:mod:`argparse` takes 8 to 10 ms to import, of the 25 ms that a tool has from
exec to its first event; what is needed of it is two hundred lines.  Short
switches cluster (``-Tp 5``), long options take ``--name=value`` and may be
shortened while that is unambiguous, every long switch has its ``--no-``
form, ``--`` ends the options.  Options and positional arguments are
:class:`osmia.lang.options.Option` objects, so a tool's own and the common
ones are treated alike; the values land in them.
"""

from __future__ import annotations

from osmia.errors import OptionError, UserError
from osmia.lang.types import Int, Str, is_enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from osmia.lang.options import Option


class HelpAsked(Exception):
    """``-h`` or ``--help`` was met."""


class Parser:
    """The options of one command.

    ``options`` in order of precedence: where two claim the same flag the
    earlier one has it, and an option that lost all of its flags is left out
    (so a tool's own ``-t`` takes the letter from the common one).
    ``arguments`` are the positional ones, all optional unless listed in
    ``required``.  With ``rest`` the first positional argument that is not
    declared ends the options, and :attr:`rest` holds what follows.
    """

    def __init__(
        self,
        program: str,
        options: Iterable[Option] = (),
        *,
        required: Iterable[Option] = (),
        rest: bool = False,
    ) -> None:
        self.program = program
        self.flags: dict[str, Option] = {}
        self.shown: dict[Option, list[str]] = {}
        self.arguments: list[Option] = []
        self.required = [*required]
        self.takes_rest = rest
        self.rest: list[str] = []
        for option in [*self.required, *options]:
            self._add(option)

    def _add(self, option: Option) -> None:
        if not option.flags[0].startswith("-"):
            if not any(one.flags[0] == option.flags[0] for one in self.arguments):
                self.arguments.append(option)
            return
        own = [flag for flag in option.flags if flag not in self.flags and flag not in ("-h", "--help")]
        for flag in own:
            self.flags[flag] = option
        if own:
            self.shown[option] = own

    def also(self, owner: Option, other: Option) -> None:
        """What is left of the flags of ``other``, which ``owner`` stands for, is ``owner``'s."""
        if owner.type is other.type and owner in self.shown:
            for flag in self.shown.pop(other, []):
                self.flags[flag] = owner
                self.shown[owner].append(flag)
            self.shown[owner].sort(key=lambda flag: flag.startswith("--"))

    def parse(self, argv: list[str]) -> None:
        """Set every option: to its default, or to what ``argv`` says.

        Raises :class:`~osmia.errors.OptionError`, and :class:`HelpAsked` as
        soon as ``-h`` or ``--help`` is met.
        """
        for option in (*self.shown, *self.arguments):
            option.value, option.given, option.times = option.default, False, 0
        self.rest = []
        words, at, plain = list(argv), 0, 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--":
                for word in words[at:]:
                    plain = self._argument(word, plain)
                break
            if word.startswith("--"):
                at = self._long(word, words, at)
            elif word.startswith("-") and word != "-":
                at = self._short(word, words, at)
            elif self.takes_rest and plain >= len(self.arguments):
                self.rest = words[at - 1 :]
                break
            else:
                plain = self._argument(word, plain)
        for option in self.required:
            if not option.given:
                raise self._error(f"{_metavar(option)} is missing")

    def _argument(self, word: str, plain: int) -> int:
        if plain >= len(self.arguments):
            if self.takes_rest:
                self.rest.append(word)
                return plain
            raise self._error(f"unexpected argument {word!r}", f"see osmia {self.program} --help")
        option = self.arguments[plain]
        self._set(option, _metavar(option), word)
        return plain + (option.type is not list)  # a list takes all that follow

    def _short(self, word: str, words: list[str], at: int) -> int:
        letters = word[1:]
        while letters:
            flag, letters = "-" + letters[0], letters[1:]
            if flag == "-h":
                raise HelpAsked
            option = self.flags.get(flag)
            if option is None:
                if word in self.flags:  # a long option with one dash only
                    return self._take(self.flags[word], word, words, at)
                raise self._unknown(flag if len(word) == 2 else f"{flag} (in {word})", word)
            if option.type is bool:
                option.set(True)
                continue
            if letters:
                self._set(option, flag, letters[1:] if letters[0] == "=" else letters)
                return at
            return self._take(option, flag, words, at)
        return at

    def _long(self, word: str, words: list[str], at: int) -> int:
        name, equals, value = word.partition("=")
        option, name, on = self._find(name)
        if option.type is bool:
            if equals:
                raise self._error(f"option {name} takes no value")
            option.set(on)
            return at
        if equals:
            self._set(option, name, value)
            return at
        return self._take(option, name, words, at)

    def _find(self, name: str) -> tuple[Option, str, bool]:
        if name in self.flags:
            return self.flags[name], name, True
        if name == "--help":
            raise HelpAsked
        negated = {f"--no-{f[2:]}": f for f, o in self.flags.items() if f.startswith("--") and o.type is bool}
        if name in negated:
            return self.flags[negated[name]], name, False
        if len(name) > 2:
            near = [flag for flag in (*self.flags, "--help") if flag.startswith(name)]
            targets = {id(self.flags.get(flag)) for flag in near}
            if len(targets) == 1:
                if near[0] not in self.flags:
                    raise HelpAsked
                return self.flags[near[0]], near[0], True
            if near:
                raise self._error(f"option {name} is ambiguous", f"it could be {' or '.join(sorted(near))}")
        raise self._unknown(name, name)

    def _take(self, option: Option, flag: str, words: list[str], at: int) -> int:
        if option.type is bool:
            option.set(True)
            return at
        if at >= len(words):
            raise self._error(f"option {flag} needs a value", f"{flag} {_metavar(option)}")
        self._set(option, flag, words[at])
        return at + 1

    def _set(self, option: Option, flag: str, word: str) -> None:
        label = flag if not flag.startswith("-") else f"option {flag}"
        try:
            value = convert(option, word)
        except OptionError:
            raise
        except UserError as err:
            raise self._error(f"{label}: {err.what}", err.fix) from None
        except (ValueError, TypeError, OverflowError) as err:
            raise self._error(f"{label}: {_reason(err, word)}") from None
        if option.type is list:
            option.set([*(option.value or []), value])
        else:
            option.set(value)

    def _unknown(self, shown: str, word: str) -> OptionError:
        import difflib

        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, [f for f in (*self.flags, "--help") if len(f) > 2], 1, 0.6)
        fix = f"did you mean {near[0]}?" if near else f"see osmia {self.program} --help"
        return self._error(f"unknown option {shown}", fix)

    def _error(self, what: str, fix: str = "") -> OptionError:
        return OptionError(what, where=self.program, fix=fix)


def _reason(err: Exception, word: str) -> str:
    text = str(err)
    # Python's own messages ("invalid literal for int() ...") mean nothing to the person at the keyboard.
    return f"{word!r} is no valid value" if not text or "literal" in text or "could not convert" in text else text


def convert(option: Option, word: str) -> Any:
    """The value that ``word`` means for ``option``; ValueError (with a sentence) or UserError where it means none."""
    if option.choices and word not in option.choices:
        import difflib

        near = difflib.get_close_matches(word, option.choices, 1, 0.6)
        fix = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(option.choices)}"
        raise UserError(f"there is no {word!r}", fix=fix)
    if option.parse is not None:
        return option.parse(word)
    kind = option.type
    if kind in (str, list):
        return word
    if kind is float:
        return _float(word)
    if is_enum(kind):
        return _member(kind, word)
    if isinstance(kind, type) and issubclass(kind, Str):
        if len(word.encode("utf-8", "surrogateescape")) >= kind.n:
            raise ValueError(f"{word!r} is too long: {kind.n - 1} bytes at most")
        return word
    if kind is int or (isinstance(kind, type) and issubclass(kind, Int)):
        return _integer(word, getattr(kind, "size", 8), getattr(kind, "signed", True))
    return kind(word)


def _integer(word: str, size: int, signed: bool) -> int:
    try:
        value = int(word, 10)
    except ValueError:
        try:
            value = int(word, 0)  # 0x1f, 0b101, 0o17
        except ValueError:
            raise ValueError(f"{word!r} is not a whole number") from None
    low, high = (-(1 << (8 * size - 1)), (1 << (8 * size - 1)) - 1) if signed else (0, (1 << (8 * size)) - 1)
    if not low <= value <= high:
        raise ValueError(f"{word} is not in the range {low} to {high}")
    return value


def _float(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None
    if value - value != 0:  # inf and nan
        raise ValueError(f"{word!r} is not a finite number")
    return value


def _member(kind: Any, word: str) -> Any:
    members = kind.__members__
    if word in members:
        return members[word]
    try:
        return kind(_integer(word, 4, True))
    except ValueError:
        raise ValueError(f"{word!r} is none of {', '.join(members)}") from None


def _metavar(option: Option) -> str:
    """What stands for the option's value in a usage line; a positional argument's is its name."""
    if not option.flags[0].startswith("-"):
        return option.metavar or option.flags[0]
    if option.metavar:
        return option.metavar
    long = [flag for flag in option.flags if flag.startswith("--")]
    return (long[0][2:] if long else "value").upper().replace("-", "_")


def usage_of(option: Option, flags: list[str]) -> str:
    """How an option is written in help: ``-p PID, --pid PID``."""
    if option.type is bool:
        return ", ".join(flags)
    return ", ".join(f"{flag}={_metavar(option)}" if flag.startswith("--") else f"{flag} {_metavar(option)}"
                     for flag in flags)  # fmt: skip


def name_of(option: Option) -> str:
    """The metavar of ``option``, for messages and usage lines."""
    return _metavar(option)
