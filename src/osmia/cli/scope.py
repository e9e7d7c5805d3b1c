# SPDX-License-Identifier: Apache-2.0
"""What a run is about, of which only this machine knows: our PID namespace, the command, the container.

These become constants of the kernel half like options, though nobody types them.
"""

from __future__ import annotations

import sys

from osmia.cli.common import shared_filter
from osmia.errors import NotSupported, OptionError
from osmia.kernel import btf_source, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.options import Option

_BY_NUMBER = ("--pid", "--tid")


def aim(session: Session) -> None:
    """Set the constants, before the object is chosen.  Raises UserErrors.

    Not called where all of them are zero: see :meth:`Session.start`.
    """
    here: Any = sys.modules.get("osmia.lang.pidns")
    if here is not None:
        here.namespace.value = proc.foreign_pid_namespace()
        if here.namespace.value:
            _check_numbers(session)
    descent: Any = sys.modules.get("osmia.lang.membership")
    if session.common.container.given:
        _container(session)
    if session.command is not None:
        _command(session, descent)


def _typed() -> bool:
    """Whether the kernel half knows what a task looks like."""
    return btf_source.is_chosen() or btf_source.has_kernel_btf()


def _option(session: Session, flag: str) -> Option | None:
    """The tool's filter of that name: the shared one, or one that takes lists."""
    return next((option for option in session.unit.options if flag in option.flags), None)


def _check_numbers(session: Session) -> None:
    """In a nested namespace the numbers of ours are found in the kernel's structures."""
    for flag in _BY_NUMBER:
        only = _option(session, flag)
        if only is not None and only.given and not _typed():
            raise NotSupported(
                "ids of this PID namespace mean nothing to a kernel without types", where=f"option {only.flags[0]}",
                fix="use --cgroup PATH, give the types with --btf FILE, or run it on the host",
            )  # fmt: skip


def _container(session: Session) -> None:
    only = shared_filter(session.unit, "cgroup")
    if only is None:
        return
    if only.given:
        raise OptionError("--container and --cgroup exclude each other", where=session.unit.name)
    only.set(session.common.container.value)


def _command(session: Session, descent: Any) -> None:
    """Trace the command and what it starts; only itself where that cannot be told."""
    if descent is not None and _typed():
        try:
            descent.ancestor.value = proc.kernel_pid()
            return
        except OSError as err:
            session.note(f"-c: only the command itself is traced, not what it starts: {err.strerror}")
    _command_alone(session)


def without_descent(session: Session) -> None:
    """Trace the command alone where the tool's object turns out to know nothing of descent."""
    descent: Any = sys.modules.get("osmia.lang.membership")
    known = any(record[0] == "option" and record[2] == "osmia.lang.membership" for record in session.records)
    if descent is not None and descent.ancestor.value and not known:
        _command_alone(session)


def _command_alone(session: Session) -> None:
    only = _option(session, "--pid")
    if only is None:
        session.note("-c: this tool has no filter by process, so everything is traced while the command runs")
    elif not only.given:
        assert session.command is not None
        only.set(session.command.pid)
