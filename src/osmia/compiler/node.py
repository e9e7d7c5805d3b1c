# SPDX-License-Identifier: Apache-2.0
"""Records of the compiler: what :mod:`dataclasses` gives, without what it costs at import.

A cold start compiles before it can trace, and seventy data classes take some
30 ms to define (each is generated as source text and compiled).  Here the
methods are closures over the names of the fields.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options):
        return lambda function: function


class _Factory:
    """The default of a field that is made anew for each record."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """A field whose default is ``default_factory()``."""
    return _Factory(default_factory)  # type: ignore[return-value]


@dataclass_transform(field_specifiers=(field,), eq_default=False)
def node(cls: type[T]) -> type[T]:
    """A record with identity: equal only to itself."""
    names, defaults = _fields(cls)
    cls.__init__ = _initialiser(cls.__name__, names, defaults)  # type: ignore[method-assign]
    cls.__repr__ = _representation(names)  # type: ignore[method-assign]
    return cls


@dataclass_transform(field_specifiers=(field,), frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A record that is equal to records of its class with equal fields, and can be a key; not to be changed."""
    made = node(cls)
    names, _ = _fields(cls)
    own = cls.__dict__
    if "__eq__" not in own:
        made.__eq__ = _equality(names)  # type: ignore[method-assign]
    if "__hash__" not in own or own["__hash__"] is None:
        made.__hash__ = _hash(names)  # type: ignore[method-assign,assignment]
    return made


def _fields(cls: type) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of the fields, inherited ones first, and their defaults."""
    names: list[str] = []
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name in base.__dict__.get("__annotations__") or _annotations(base):  # noqa: RUF063 - inspect is slow
            if name not in names:
                names.append(name)
            if name in base.__dict__:
                defaults[name] = base.__dict__[name]
    return tuple(names), defaults


def _annotations(base: type) -> dict[str, Any]:
    """Python 3.14 computes annotations when asked."""
    return dict(getattr(base, "__annotations__", {})) if "__annotate_func__" in base.__dict__ else {}


def _initialiser(owner: str, names: tuple[str, ...], defaults: dict[str, Any]) -> Callable[..., None]:
    count = len(names)

    def __init__(self: Any, *args: Any, **named: Any) -> None:
        if named or len(args) != count:
            args = _complete(owner, names, defaults, args, named)
        self.__dict__.update(zip(names, args))  # noqa: B905 - strict= costs, and the lengths agree

    return __init__


def _complete(
    owner: str, names: tuple[str, ...], defaults: dict[str, Any], args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """All fields in order, from what was given and the defaults."""
    if len(args) > len(names):
        raise TypeError(f"{owner} has {len(names)} fields, not {len(args)}")
    out = list(args)
    for name in names[len(args) :]:
        if name in named:
            out.append(named.pop(name))
        elif name in defaults:
            default = defaults[name]
            out.append(default.make() if isinstance(default, _Factory) else default)
        else:
            raise TypeError(f"{owner} needs its field {name!r}")
    if named:
        raise TypeError(f"{owner} has no field {next(iter(named))!r} to be given by name")
    return tuple(out)


def _representation(names: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

    return __repr__


def _equality(names: tuple[str, ...]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:
        if type(other) is not type(self):
            return False
        return all(getattr(self, n) == getattr(other, n) for n in names)

    return __eq__


def _hash(names: tuple[str, ...]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash((type(self), *[getattr(self, n) for n in names]))

    return __hash__
