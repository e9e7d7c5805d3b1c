# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors.

A :class:`UserError` is something the person at the keyboard can act on; it
prints as one sentence: what is wrong, where, and what to do.  An
:class:`InternalError` is a defect of osmia itself.
"""

from __future__ import annotations


class OsmiaError(Exception):
    """Root of every error that osmia raises on purpose."""


class InternalError(OsmiaError):
    """A defect of osmia: a state that the code holds to be impossible."""


class UserError(OsmiaError):
    """Something that the user can mend.

    ``what`` says what is wrong, ``where`` names the place (a file, an option,
    a probe; may be empty) and ``fix`` says what to do (may be empty).
    ``str()`` is one line: ``where: what; fix``.
    """

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text


class OptionError(UserError):
    """A wrong command line: unknown option, bad value, missing argument."""

    exit_status = 2


class TooCostly(UserError):
    """A run ended itself because it cost more than it was allowed to."""

    exit_status = 3


class NotSupported(UserError):
    """This kernel (or this machine) lacks what was asked for."""


class NotPermitted(UserError):
    """The kernel refused for want of a privilege (EPERM, EACCES, lockdown)."""


class NotFound(UserError):
    """A tracepoint, type, field, tool or file of that name does not exist."""


class CompileError(UserError):
    """A kernel function that cannot be compiled.

    ``line`` is 1-based, ``column`` and ``end_column`` are 0-based character
    offsets in ``source`` (the text of that line).  ``context`` holds the
    call chain, innermost last: one ``(file, line, function)`` per caller.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str,
        line: int,
        column: int = 0,
        end_column: int = 0,
        source: str = "",
        fix: str = "",
        context: tuple[tuple[str, int, str], ...] = (),
    ) -> None:
        super().__init__(what, where=f"{file}:{line}:{column + 1}", fix=fix)
        self.file = file
        self.line = line
        self.column = column
        self.end_column = end_column
        self.source = source
        self.context = context

    def render(self) -> str:
        """The error as a compiler prints it: source line, caret, hint."""
        out = [f"{self.where}: error: {self.what}"]
        if self.source:
            width = max(1, min(self.end_column, len(self.source)) - self.column)
            out.append(f"    {self.source}")
            out.append("    " + " " * self.column + "^" + "~" * (width - 1))
        if self.fix:
            out.append(f"hint: {self.fix}")
        out.extend(f"called from {f}:{n}, in {name}" for f, n, name in reversed(self.context))
        return "\n".join(out)


class VerifierError(UserError):
    """The kernel's verifier rejected a program.

    ``line`` is the Python source line (``file:line: text``) that the log
    points at, or empty; ``log`` the whole verifier log; ``prog`` the
    program's ELF name.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "", log: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.log = log
        self.prog = ""
