# SPDX-License-Identifier: Apache-2.0
"""The ``osmia`` command.

A tool that is cached must deliver its first event 25 ms after exec, so this
module imports what a tool needs and nothing else; the other commands bring
their imports with them.
"""

from __future__ import annotations

import gc
import os
import sys

from osmia.errors import CompileError, UserError, VerifierError
from osmia.views.output import ClosedPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from osmia.cli.record import Record
    from osmia.lang.unit import Unit
    from osmia.link.base import Link

#: Links whose closing is left to a child when the process exits.
_left: list[Link] = []


def main(argv: list[str] | None = None, *, exiting: bool = False) -> int:
    """Run the command line ``argv`` (default: the process's); the exit status.

    With ``exiting`` the caller promises to exit at once and to call
    :func:`go` for it; without, everything is detached on return.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    called = os.path.basename(sys.argv[0]) if argv is None and sys.argv else "osmia"
    if called not in ("osmia", "__main__.py", "main.py", "-c", "-m"):
        from osmia.cli import catalog

        if catalog.exists(called):  # a link made by `osmia links`
            words = [called, *words]
    return guarded(lambda: _dispatch(words, exiting))


def entry() -> NoReturn:
    """The process's whole life: main, and out without Python's own farewell (5 ms)."""
    gc.disable()  # importing makes no garbage either
    go(main(exiting=True))


def go(status: int) -> NoReturn:
    """Exit now."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass
    if _left:
        from osmia.link.detach import leave

        leave(_left)
    os._exit(status)


def guarded(action: Callable[[], int]) -> int:
    """Run ``action``; errors become one sentence on standard error and an exit status."""
    try:
        return action()
    except UserError as err:
        complain(err)
        return err.exit_status
    except ClosedPipe:
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception as err:
        if os.environ.get("OSMIA_DEBUG") == "1":
            raise
        text = str(err).partition("\n")[0]
        _say(f"internal error: {type(err).__name__}: {text}; please report it (OSMIA_DEBUG=1 shows the traceback)")
        return 70


def complain(err: UserError) -> None:
    """Say what is wrong and what to do, on standard error."""
    if isinstance(err, CompileError):
        _say(err.render())
        return
    _say(str(err))
    log = getattr(err, "log", "")
    if isinstance(err, VerifierError) and log and getattr(err, "show_log", False):
        _say(f"the verifier's log:\n{log}")


def _say(text: str) -> None:
    from osmia.views.escape import escape

    lines = [escape(line) for line in text.split("\n")]
    try:
        sys.stderr.write("osmia: " + "\n".join(lines) + "\n")
        sys.stderr.flush()
    except OSError:
        pass


def _dispatch(words: list[str], exiting: bool) -> int:
    if not words:
        from osmia.cli.helptext import main_help

        sys.stdout.write(main_help())
        return 2
    first, rest = words[0], words[1:]
    from osmia.cli import catalog

    if first in catalog.COMMANDS or first.startswith("-"):
        from osmia.cli import commands

        return commands.run(first, rest, exiting)
    if not catalog.exists(first):
        raise catalog.unknown(first)
    return run_unit(tool_unit(first), rest, exiting)


def tool_unit(name: str) -> Unit:
    """The unit of the tool ``name``, which exists."""
    from osmia.lang.unit import Unit

    module_name = "osmia.tools." + name
    __import__(module_name)
    return Unit(name, vars(sys.modules[module_name]))


def run_module(namespace: dict[str, Any], argv: list[str], *, exiting: bool = False) -> int:
    """Run the module with the globals ``namespace`` as a tool; the exit status, errors having been told.

    ``exiting`` as for :func:`main`; otherwise the process is taken to be about to end, too, and the slow closes are
    left to a child at once.
    """
    from osmia.lang.unit import Unit

    file = str(namespace.get("__file__") or "program")
    name = os.path.basename(file).removesuffix(".py")

    def action() -> int:
        unit = Unit(name, namespace)
        if not unit.progs:
            raise UserError("there is no kernel function in it", where=file, fix="decorate one: @tracepoint(...)")
        return run_unit(unit, argv, True)

    status = guarded(action)
    if _left and not exiting:
        from osmia.link.detach import leave

        leave(_left)
    return status


def run_unit(unit: Unit, argv: list[str], exiting: bool, record: Record | None = None) -> int:
    """Parse ``argv``, run ``unit``, show it or ``record`` it; the exit status.  Raises UserErrors."""
    from osmia.cli.args import HelpAsked
    from osmia.cli.common import Common, parser_of

    common = Common()
    parser = parser_of(unit, common)
    try:
        parser.parse(argv)
    except HelpAsked:
        from osmia.cli.helptext import tool_help

        sys.stdout.write(tool_help(unit, parser))
        return 0
    common.check(unit.name)
    common.seconds_between()
    if unit.template is not None and unit.template.lists:
        from osmia.cli import listing

        return listing.show(unit, common)
    if record is not None:
        record.begin(unit, common)
    from osmia.cli.session import Session

    session = Session(unit, common)
    gc.disable()  # nothing here makes cycles, and a collection in the middle of a burst costs events
    try:
        session.start()
        if record is None:
            _show(session)
        else:
            record.show(session)
        if session.watch is not None and session.watch.refused is not None:
            raise session.watch.refused
    except VerifierError as err:
        err.show_log = bool(common.verbose or common.verifier_log)  # type: ignore[attr-defined]
        raise
    finally:
        gc.enable()
        links = session.close()
        for link in links:
            if exiting and link.slow_close:
                _left.append(link)
            else:
                link.close()
    return session.status


def _show(session: Any) -> None:
    from osmia.cli.templates import run

    run(session)
    tell_losses(session)
    account(session)


def tell_losses(session: Any, *, machine: bool = True) -> None:
    """Say what was lost, on standard error and (``machine``) as a record of the output where that is JSON."""
    from osmia.cli.templates import mode_of
    from osmia.events import loss

    lost = session.losses.read()
    if lost:
        if machine and mode_of(session) == "json":
            from osmia.views.machine import json_line

            session.out.write(json_line(loss.as_json(lost)) + "\n")
        sizes = {name: one.max_entries for name, one in session.live.maps.items()} | session.live.perf_rings
        for slot, count in lost:
            sys.stderr.write(f"osmia: {loss.sentence(slot, count, sizes)}\n")
    if session.user is not None:
        from osmia.cli.user import notices

        for text in notices(session.links):
            sys.stderr.write(f"osmia: {text}\n")


def account(session: Any, *, machine: bool = True) -> None:
    """What the run has cost, if that was measured; TooCostly if it has ended the run.  As :func:`tell_losses`."""
    if session.meter is None:
        return
    from osmia.cli.templates import mode_of

    if mode_of(session) == "json":
        from osmia.views.machine import json_line

        if machine:
            session.out.write(json_line(session.meter.record()) + "\n")
    elif session.common.stats:
        sys.stderr.write(session.meter.text())
    refusal = session.meter.refusal()
    if refusal is not None:
        raise refusal


if __name__ == "__main__":
    from osmia.cli.main import entry as once  # as `python -m`: there must not be two copies of this module

    once()
