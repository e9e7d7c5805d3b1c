# SPDX-License-Identifier: Apache-2.0
"""Command-line options that kernel code can read.

An option used in kernel code becomes a ``.rodata`` value of one fixed
program: it is set before load, and the verifier prunes what it rules out.
In ordinary Python an option behaves as its value.
"""

from __future__ import annotations

from osmia.lang.types import Int, Str, is_enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Option:
    """One option.  ``flags`` are its spellings (``("-p", "--pid")``; without a dash: a positional argument).

    ``type`` is ``bool`` (a switch), ``int``, one of the integer types,
    ``str`` (user side only), ``Str[n]``, ``float`` (user side only) or a
    function from text to value; ``choices`` limits it; ``stored`` is the type
    of the ``.rodata`` value.
    """

    def __init__(
        self,
        *flags: str,
        type: Any = bool,
        default: Any = None,
        help: str = "",
        metavar: str = "",
        choices: tuple[str, ...] = (),
        parse: Callable[[str], Any] | None = None,
    ) -> None:
        if not flags:
            raise TypeError('option() needs a flag: option("-p", "--pid", type=int)')
        self.flags = flags
        self.type = type
        self.default = _nothing(type) if default is None else default
        self.help = help
        self.metavar = metavar
        self.choices = choices
        self.parse = parse
        self.name = ""
        self.value: Any = self.default
        self.given = False
        #: How often it was there: ``-vv``.
        self.times = 0

    @property
    def stored(self) -> Any:
        """Type of the ``.rodata`` variable; None where kernel code cannot use the option."""
        if self.type in (bool, int) or is_enum(self.type):
            return self.type
        if isinstance(self.type, type) and issubclass(self.type, (Int, Str)) and self.type is not Str:
            return self.type
        return None

    def set(self, value: Any) -> None:
        """Give the option a value, as the command line would."""
        self.value = value
        self.given = True
        self.times += 1

    def __repr__(self) -> str:
        return f"<option {'/'.join(self.flags)} = {self.value!r}>"

    # In ordinary Python an option is its value.
    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__

    def __str__(self) -> str:
        return str(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _value(other))

    def __hash__(self) -> int:
        return id(self)

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)

    def __add__(self, other: Any) -> Any:
        return self.value + _value(other)

    def __radd__(self, other: Any) -> Any:
        return other + self.value

    def __sub__(self, other: Any) -> Any:
        return self.value - _value(other)

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * _value(other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self.value // _value(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.value

    def __truediv__(self, other: Any) -> Any:
        return self.value / _value(other)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.value

    def __mod__(self, other: Any) -> Any:
        return self.value % _value(other)

    def __and__(self, other: Any) -> Any:
        return self.value & _value(other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return self.value | _value(other)

    def __contains__(self, item: Any) -> bool:
        return item in self.value


def _value(other: Any) -> Any:
    return other.value if isinstance(other, Option) else other


def _nothing(kind: Any) -> Any:
    """The default of an option that has none: what "not given" reads as in the kernel."""
    if kind is bool:
        return False
    if kind is str or (isinstance(kind, type) and issubclass(kind, Str)):
        return ""
    if kind is int or (isinstance(kind, type) and issubclass(kind, int)):
        return 0
    return None


class Computed(Option):
    """A constant of the kernel half, or a place of a probe, that follows from options: whatever ``value_of()`` gives.

    Nobody types it.  ``flag`` is what messages call it: mostly the option that it follows from.
    """

    def __init__(self, flag: str, value_of: Callable[[], Any], *, type: Any = bool) -> None:
        self._value_of = value_of
        super().__init__(flag, type=type)

    @property
    def value(self) -> Any:
        return self._value_of()

    @value.setter
    def value(self, value: Any) -> None:
        pass


def option(
    *flags: str,
    type: Any = bool,
    default: Any = None,
    help: str = "",
    metavar: str = "",
    choices: tuple[str, ...] = (),
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """Declare a command-line option of this tool; see :class:`Option`.

    Typed as Any, because in kernel code it is a number and not an object.

    Example::

        pid = option("-p", "--pid", type=int, help="this process only")
        reads = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            if not pid or current.tgid == pid:
                reads[current.tgid] += 1
    """
    return Option(*flags, type=type, default=default, help=help, metavar=metavar, choices=choices, parse=parse)
