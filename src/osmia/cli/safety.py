# SPDX-License-Identifier: Apache-2.0
"""Tools that attach where their user says: how many places that is, what it costs, and asking when it is much.

Before anything is loaded the places are counted.  After one second the rate
of hits is told, and what share of the machine's time they take: the run time
of the programs, which the kernel counts during that second only (counting
costs something, too), and for each hit what its kind of probe costs around
the program.  Both times the user is asked whether to go on if it is more than
the limit; where nobody can be asked the run ends, unless ``--yes`` said so in
advance.
"""

from __future__ import annotations

import os
import select
import sys
import time

from osmia.errors import TooCostly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.costs import Sample
    from osmia.cli.placed import Placed
    from osmia.cli.session import Session
    from osmia.cli.signals import Stop

#: Places up to which nobody is asked: with one link for all of them, and where each is a perf event of its own, which
#: takes the kernel 50 to 100 ms to take off.
MANY, MANY_SINGLE = 20_000, 500
#: Share of the time of all CPUs, in percent, up to which nobody is asked.
LIMIT = 50.0
_MORE = f"that is more than {LIMIT:g} %"
#: Seconds after which the cost is measured, and in which a question wants an answer.
AFTER, ANSWER = 1.0, 20.0
#: What a hit takes around the program, in ns, by the kind of probe: a breakpoint's exception and the step over the
#: instruction; a call out of ftrace; the trampoline of a return.  User probes' are measured, the kernel's
#: estimated (see docs/safety.md).
AROUND = {
    "uprobe": 850, "usdt": 850, "uretprobe": 1500, "kprobe": 100, "kretprobe": 250, "kprobe_multi": 60,
    "kretprobe_multi": 120, "tracepoint": 60,
}  # fmt: skip

#: Of a return whose entry is probed, too: the breakpoint is there already.
AROUND_SHARED = 500


def check_number(session: Session, placed: Placed) -> None:
    """Ask if there are very many places.  Raises TooCostly where the answer is no, or nobody can give one."""
    from osmia.kernel import features
    from osmia.link import uprobe

    single = 0
    for kind, count in placed.kinds.items():
        if kind.startswith("u"):
            single += 0 if uprobe.multi(session.user.pid if session.user is not None else 0) else count
        elif kind == "tracepoint" or features.has("kprobe_multi") is False:
            single += count
    count = placed.count
    session.note(f"{count:,} place{'s' * (count != 1)} to attach to")
    if bool(session.common.yes) or (count <= MANY and single <= MANY_SINGLE):
        return
    why = f"{count:,} places would be probed"
    if single > MANY_SINGLE:
        why += f", {single:,} of them one by one, which the kernel needs minutes to undo"
    if not _agreed(why, session.stop):
        raise TooCostly(why, where=session.unit.name, fix="use a narrower pattern, or --yes")


def _agreed(why: str, stop: Stop) -> bool:
    """Ask at the terminal; False where there is none, and without an answer in time."""
    try:
        if not (os.isatty(0) and os.isatty(2)):
            return False
    except OSError:
        return False
    sys.stderr.write(f"osmia: {why}; go on? [y/N] ")
    sys.stderr.flush()
    # A signal that ends the run does not end the waiting by itself (PEP 475), so the terminal is looked at often.
    end = time.monotonic() + ANSWER
    while time.monotonic() < end and not stop.asked:
        if select.select([0], [], [], 0.1)[0]:
            return os.read(0, 256).strip().lower() in (b"y", b"yes")
    sys.stderr.write("no answer\n")
    return False


class Watch:
    """Measures the first second of a run, says what it cost, and asks if that was much."""

    def __init__(self, session: Session, placed: Placed, stats_fd: int, uncounted: str) -> None:
        from osmia.cli.costs import Counters

        self._session = session
        self._count, self._kinds = placed.count, placed.kinds
        self._stats_fd = stats_fd
        self._counters = Counters(session, uncounted)
        self._uncounted = uncounted
        self._start = self._counters.sample()
        self._after = session.stop.tick, session.stop.tick_at
        self.refused: TooCostly | None = None
        session.stop.tick = self._tick
        session.stop.tick_at = self._start.at + AFTER

    def close(self) -> None:
        """Have the kernel count no more."""
        if self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1

    def _tick(self) -> None:
        session = self._session
        spent = self._counters.sample().minus(self._start)
        self.close()
        session.stop.tick, session.stop.tick_at = self._after
        if self._uncounted:
            session.note(f"the rate of hits is not known: {self._uncounted}")
            return
        text, percent = self.measured(spent)
        sys.stderr.write(f"osmia: {text}\n")
        if percent > LIMIT and not session.common.yes and not _agreed(_MORE, session.stop):
            self.refused = TooCostly(
                f"ended after {spent.at:.1f} s: {text}", where=session.unit.name,
                fix="use a narrower pattern or a filter such as -p, or --yes to go on",
            )  # fmt: skip
            session.stop.asked = True

    def measured(self, spent: Sample) -> tuple[str, float]:
        """The sentence about what ``spent`` is, and the share of all CPUs' time in percent."""
        hits, around = 0, 0
        for prog, hook in self._session.chosen.items():
            runs = spent.programs.get(prog.elf_name(hook), (0, 0, 0))[0]
            hits += runs
            shared = hook.kind == "uretprobe" and "uprobe" in self._kinds
            around += runs * (AROUND_SHARED if shared else AROUND.get(hook.kind, 0))
        whole = max(spent.at, 1e-9) * self._counters.cpus * 1e9
        percent = 100 * (spent.in_programs() + around) / whole
        cpus = self._counters.cpus
        places = f"{self._count:,} place{'s' * (self._count != 1)}"
        shown = f"about {percent:.2g}" if percent >= 0.01 else "less than 0.01"
        return (f"{round(hits / max(spent.at, 1e-9)):,} hits a second at {places}, which take {shown} % "
                f"of the time of {cpus} CPU{'s' * (cpus != 1)}"), percent  # fmt: skip
