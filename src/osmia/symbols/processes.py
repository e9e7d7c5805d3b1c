# SPDX-License-Identifier: Apache-2.0
"""What each process had mapped, and when: a number may be many programs, one after the other.

Without any records a process is looked at when an address of it is asked
for.  Whoever has records of fork, exec, mmap and exit hands them in, in the
order of their times, and then addresses of processes that are gone resolve
too, at the time at which they were seen.  Times are nanoseconds of one clock
(``bpf_ktime_get_ns``); 0 means now.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.symbols.jit import PerfMap
from osmia.symbols.maps import Mapping, Maps, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.symbols.frame import Frame

#: Processes that are kept; the ones heard of longest ago are forgotten.
MOST = 8192


class Program:
    """One program in one process, from one exec to the next or to the exit.

    ``frames`` are addresses resolved so far: the address, negative for one
    that a call returns to.
    """

    __slots__ = ("frames", "jit", "maps", "problem", "since", "until")

    def __init__(self, maps: Maps, since: int = 0) -> None:
        self.maps = maps
        self.since = since
        self.until = 0
        self.jit: PerfMap | None = None
        self.frames: dict[int, Frame] = {}
        self.problem = ""

    def perf_map(self) -> PerfMap:
        """The map that the process's runtime may have written."""
        if self.jit is None:
            self.jit = PerfMap(self.maps)
        return self.jit

    def look_again(self) -> bool:
        """Add what the process has mapped since; False if it is gone, or runs another program now."""
        if self.until or not self.maps.alive():
            return False
        try:
            now = Maps.capture(self.maps.pid)
        except UserError:
            return False
        same = now.started == self.maps.started and now.program == self.maps.program
        if same:
            for one in now:
                self.add(one)
        now.close()
        return same

    def add(self, mapping: Mapping) -> None:
        """A mapping that was made since."""
        if self.maps.add(mapping):
            self.frames.clear()  # what was resolved there may be something else now


class Processes:
    """All processes heard of."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._programs: dict[int, list[Program]] = {}

    def __len__(self) -> int:
        return len(self._programs)

    def programs(self) -> list[Program]:
        """Everything known."""
        return [one for programs in self._programs.values() for one in programs]

    def programs_of(self, pid: int) -> list[Program]:
        """What process ``pid`` has run, as far as is known, in order."""
        return list(self._programs.get(pid, ()))

    def forget(self, pid: int) -> None:
        """Drop what is known of process ``pid``."""
        for one in self._programs.pop(pid, []):
            one.maps.close()

    def close(self) -> None:
        """Drop everything."""
        for pid in list(self._programs):
            self.forget(pid)

    def _start(self, pid: int, maps: Maps, since: int) -> Program:
        known = self._programs.setdefault(pid, [])
        if known and not known[-1].until:
            known[-1].until = since or 1
        made = Program(maps, since)
        known.append(made)
        if len(self._programs) > self.most:
            self.forget(next(iter(self._programs)))
        return made

    def _capture(self, pid: int, since: int) -> Program:
        try:
            return self._start(pid, Maps.capture(pid), since)
        except UserError as e:
            made = self._start(pid, Maps(pid), since)
            made.problem = e.what
            return made

    # -- asking ---------------------------------------------------------

    def at(self, pid: int, time: int = 0) -> Program:
        """What process ``pid`` ran at ``time``; it is looked at now if it was not known."""
        known = self._programs.get(pid)
        if not known:
            return self._capture(pid, 0)
        if time:
            for one in reversed(known):
                if one.since <= time:
                    return one if not one.until or time <= one.until else self._later(pid, one, time)
            return known[0]
        last = known[-1]
        now = started(pid)
        # Gone: what it was.  The number went to another process, or the program has changed: that one.
        if not now or (last.maps.started == now and not self._changed(last)):
            return last
        if last.problem or not last.maps.started:  # it was handed in, or there was nothing to see
            return last if len(last.maps) else self._capture(pid, 0)
        return self._capture(pid, 0)

    def _later(self, pid: int, ended: Program, time: int) -> Program:
        """A time after an exit: the number belongs to another process, if to any."""
        if self._programs[pid][-1] is ended and started(pid) not in (0, ended.maps.started):
            return self._capture(pid, time)
        return ended

    @staticmethod
    def _changed(program: Program) -> bool:
        import os

        try:
            return os.readlink(f"/proc/{program.maps.pid}/exe").removesuffix(" (deleted)") != program.maps.program
        except OSError:
            return False

    # -- records --------------------------------------------------------

    def hand_in(self, maps: Maps, time: int = 0) -> Program:
        """Mappings captured elsewhere, or earlier; they hold from ``time`` on."""
        return self._start(maps.pid, maps, time)

    def forked(self, parent: int, child: int, time: int) -> None:
        """``child`` begins with what ``parent`` has mapped."""
        known = self._programs.get(parent)
        maps = known[-1].maps.copy(child) if known else Maps(child)
        maps.started = started(child)
        self._start(child, maps, time)

    def executed(self, pid: int, time: int) -> None:
        """``pid`` runs another program: what it has mapped is captured now, if it is still there."""
        self._capture(pid, time)

    def mapped(self, pid: int, mapping: Mapping, time: int) -> None:
        """``pid`` has mapped a file as code."""
        self.at(pid, time).add(mapping)

    def exited(self, pid: int, time: int) -> None:
        """``pid`` has ended; what is known of it is kept."""
        known = self._programs.get(pid)
        if known and not known[-1].until:
            known[-1].until = time
