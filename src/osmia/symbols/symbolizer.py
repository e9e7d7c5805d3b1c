# SPDX-License-Identifier: Apache-2.0
"""Names for stacks: the one object that tools ask.

It reads nothing before an address is asked for, keeps the symbols of each
file once whoever has it mapped, and stays below a set number of bytes.  What
cannot be named keeps its build id and offset in the file, so that it can be
named later, or elsewhere.
"""

from __future__ import annotations

import os
from itertools import chain

from osmia.symbols import demangle, jit, unwind
from osmia.symbols.frame import JIT, UNKNOWN, USER, Frame
from osmia.symbols.ksyms import Ksyms
from osmia.symbols.maps import Maps
from osmia.symbols.processes import Processes, Program
from osmia.symbols.store import LIMIT, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from osmia.symbols import maps
    from osmia.symbols.elf_names import Names
    from osmia.symbols.unwind import Unwound

#: Frames that are kept, of all processes together.
_MOST_FRAMES = 200_000


class Symbolizer:
    """Names of kernel and user addresses.

    ``limit`` is in bytes, for what is read from files; ``ksyms`` stands in
    for this kernel's symbols; ``programs`` gives descriptors and names of BPF
    programs that may be in stacks.  ``processes`` takes records of fork, exec,
    mmap and exit.  Close it, or use ``with``.
    """

    def __init__(
        self, limit: int = LIMIT, ksyms: Ksyms | None = None,
        programs: Callable[[], Iterable[tuple[int, str]]] | None = None,
    ) -> None:  # fmt: skip
        self.kernel = ksyms if ksyms is not None else Ksyms(programs=programs)
        self.store = Store(limit)
        self.processes = Processes()
        self._kept_frames = 0
        self._mangled = False
        self._advice: dict[str, str] = {}

    def __enter__(self) -> Symbolizer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap all files and forget all processes."""
        self.store.close()
        self.processes.close()

    # -- processes ------------------------------------------------------

    def remember(self, pid: int) -> bool:
        """Look at process ``pid`` now and open the files that it has mapped, for when it is gone.

        False if nothing could be seen: it is gone already, or not ours to see.
        """
        known = len(self.processes.programs_of(pid))
        program = self.processes.at(pid)
        if len(self.processes.programs_of(pid)) == known:
            program.look_again()
        self._open(program)
        return len(program.maps) > 0

    def began(self, pid: int, since: int) -> Program:
        """The same for a process that has run its program since ``since`` (ns), whatever it ran before."""
        self.processes.executed(pid, since)
        program = self.processes.at(pid, since)
        self._open(program)
        return program

    def _open(self, program: Program) -> None:
        for mapping in program.maps:
            found = self.store.of_mapping(program.maps, mapping) if mapping.may_be_image else None
            if found is None and not mapping.has_file and program.jit is None:
                program.perf_map().refresh()

    def missed(self, pid: int, since: int) -> None:
        """Process ``pid`` ran something from ``since`` (ns) on that nobody has looked at: it has no names."""
        self.processes.hand_in(Maps(pid), since)

    # -- user addresses -------------------------------------------------

    def user(self, pid: int, address: int, time: int = 0) -> Frame:
        """The function at ``address`` of process ``pid`` at ``time`` (ns; 0: now)."""
        return self._frames(pid, (address,), time)[0]

    def users(self, pid: int, addresses: Iterable[int], time: int = 0) -> list[Frame]:
        """The functions at many addresses, in their order; faster than one by one."""
        return self._frames(pid, list(addresses), time)

    def user_stack(
        self, pid: int, addresses: Sequence[int], time: int = 0, *, exact: Collection[int] = (0,)
    ) -> list[Frame]:  # fmt: skip
        """The frames of a stack, innermost first.

        All but the first are addresses that calls return to: the function
        that is named is the one with the call, even if that is its last
        instruction.  ``exact`` are the numbers of the frames that did not
        call: the first, and those that a signal interrupted.
        """
        keys = [address if n in exact else -address for n, address in enumerate(addresses)]
        return self._frames(pid, keys, time)

    def user_stacks(self, pid: int, stacks: Iterable[Sequence[int]], time: int = 0) -> list[list[Frame]]:
        """The frames of many stacks of one process, in their order: it is looked at once for all of them."""
        stacks = list(stacks)
        first = {stack[0] for stack in stacks if stack}
        others = set(chain.from_iterable([stack[1:] for stack in stacks]))
        frames = self._frames(pid, [*first, *[-address for address in others]], time)
        inner = dict(zip(first, frames, strict=False))  # the others follow
        outer = dict(zip(others, frames[len(first) :], strict=True)).__getitem__
        return [[inner[stack[0]], *map(outer, stack[1:])] if stack else [] for stack in stacks]

    def unwind(self, pid: int, registers: Mapping[int, int], stack: bytes, start: int, time: int = 0) -> Unwound:
        """Addresses of a stack from a copy of it, for programs without frame pointers.

        ``registers`` are by DWARF number (:func:`osmia.symbols.unwind.of_sample`
        makes them of a perf sample), ``stack`` is what was in memory from
        ``start`` on.
        """
        program = self.processes.at(pid, time)
        found = unwind.unwind(registers, stack, start, program.maps, self.store)
        if found.unmapped and program.look_again():
            found = unwind.unwind(registers, stack, start, program.maps, self.store)
        self.store.trim()
        return found

    def forget_unknown(self) -> None:
        """What had no name may have one later: a module is loaded, a compiler writes what it has made."""
        self.kernel.forget_unknown()
        for program in self.processes.programs():
            for key in [key for key, frame in program.frames.items() if frame.kind == UNKNOWN]:
                del program.frames[key]

    def build_id(self, id: str, offset: int, path: str = "", *, back: bool = False) -> Frame:
        """The function at byte ``offset`` of the file with build id ``id``, as BPF_F_USER_BUILD_ID gives them.

        ``id`` is hexadecimal.  ``path`` is where it may be; it is looked for among the files seen so
        far and those of debug packages too.
        """
        names = self.store.of_build_id(id, path)
        frame = Frame(0, USER, "", 0, path or f"build id {id[:12]}", id, offset)
        if names is not None:
            address = names.image.address_of(offset - 1 if back else offset)
            frame.module = path or names.path
            self._name(frame, names, address if address is not None else -1, 1 if back else 0)
            self.store.trim()
        return frame

    def in_file(self, path: str, offset: int) -> Frame:
        """The function at byte ``offset`` of a file.  Raises what :class:`Image` raises."""
        names = self.store.of_path(path)
        frame = Frame(0, USER, "", 0, path, names.build_id, offset)
        address = names.image.address_of(offset)
        self._name(frame, names, address if address is not None else -1, 0)
        self.store.trim()
        return frame

    def _frames(self, pid: int, keys: Sequence[int], time: int) -> list[Frame]:
        """``keys`` are addresses, negative for those that calls return to."""
        program = self.processes.at(pid, time)
        known = program.frames
        wanted = [key for key in set(keys) if key not in known]
        if wanted:
            if self._kept_frames + len(wanted) > _MOST_FRAMES:
                for one in self.processes.programs():
                    one.frames.clear()
                self._kept_frames = 0
                wanted = list(set(keys))
            self._kept_frames += len(wanted)
            missing = self._resolve(program, wanted)
            if missing and program.look_again():
                self._resolve(program, missing)
            self.store.trim()
        return [known[key] for key in keys]

    def _resolve(self, program: Program, keys: list[int]) -> list[int]:
        """Make frames; the keys at whose address nothing is mapped as far as is known."""
        keys.sort(key=abs)
        missing = []
        frames = program.frames
        mapping: maps.Mapping | None = None
        names: Names | None = None
        end = delta = shift = evicted = 0
        id = path = ""
        for key in keys:
            address, back = (key, 0) if key >= 0 else (-key, 1)
            at = address - back
            if at >= end or evicted != self.store.evicted:
                mapping = program.maps.find(at)
                if mapping is None:
                    frames[key] = Frame(address, UNKNOWN)
                    missing.append(key)
                    end = 0
                    continue
                end = mapping.end
                names = None
                if mapping.may_be_image:
                    names = self.store.of_mapping(program.maps, mapping)
                shift = mapping.offset - mapping.start
                delta = shift + names.image.distance(mapping.offset) if names is not None else 0
                id, path = mapping.build_id, mapping.path
                evicted = self.store.evicted
            if names is None:
                assert mapping is not None
                frames[key] = self._nameless(program, mapping, address, back)
                continue
            frame = frames[key] = Frame(address, USER, "", 0, path, id, address + shift)
            self._name(frame, names, at + delta, back)
        return missing

    def _name(self, frame: Frame, names: Names, address: int, back: int) -> None:
        """Fill in name and offset; ``address`` is the file's own, and ``back`` less than what the frame says."""
        found = names.at(address)
        if found is None and back:  # a signal's trampoline is not called: its first instruction is returned to
            found = names.at(address + 1)
        if found is not None:
            frame.name = found[0]
            frame.offset = address + back - found[1]
            if found[0][:2] in ("_Z", "_R"):
                self._mangled = True

    def _nameless(self, program: Program, mapping: maps.Mapping, address: int, back: int) -> Frame:
        """A frame in a file that cannot be had, or in memory without one."""
        if mapping.has_file or mapping.path == "[vdso]":
            offset = address - mapping.start + mapping.offset
            return Frame(address, USER, "", 0, mapping.path, mapping.build_id, offset)
        found = None
        table = program.perf_map()
        for _ in range(2):
            found = table.at(address - back)
            if found is not None or not table.refresh():
                break
        if found is not None:
            return Frame(address, JIT, found[0], address - found[1])
        if not mapping.path:
            self._advise(program)
        return Frame(address, UNKNOWN, "", 0, mapping.path if mapping.path[:1] == "[" else "[anon]")

    # -- what could not be done -----------------------------------------

    def _advise(self, program: Program) -> None:
        who = program.maps
        text = jit.advice(who.program)
        table = program.perf_map()
        if text and table.problem:
            name = os.path.basename(who.program)
            self._advice[f"process {who.pid} ({name})"] = f"{table.problem}; {text.replace('PID', str(who.own_pid))}"

    def notes(self) -> list[str]:
        """Why names are missing, one sentence each: for the end of a report."""
        out = [f"{where}: {what}" for where, what in {**self.store.problems, **self._advice}.items()]
        gone = [one for one in self.processes.programs() if one.problem]
        out += [f"process {one.maps.pid}: {one.problem}" for one in gone]
        if self._mangled and not demangle.available():
            out.append('names of C++ and Rust functions are as in their files; pip install "osmia[symbols]"')
        return out


def of_process(pid: int, addresses: Iterable[int]) -> list[Frame]:
    """Names for a few addresses of one process, once.  Raises NotFound (no such process), NotPermitted."""
    with Symbolizer() as symbolizer:
        symbolizer.processes.hand_in(Maps.capture(pid))
        return symbolizer.users(pid, addresses)
