# SPDX-License-Identifier: Apache-2.0
"""tc programs where there are no tcx links (before 6.6): a filter in a ``clsact`` queue.

Queue and filter belong to the device and not to a process, so somebody has
to take them off.  That is a *keeper*: a child that attaches, waits for the
end of a pipe that only this process holds, and detaches.  However this
process ends, kill -9 included, the pipe ends with it.  The keeper leads a
session of its own and ignores the signals of terminals and service managers,
so that what ends a whole group of processes politely does not end it.

Should the keeper itself be killed with -9, its filter is taken off by
``close()``, or by whoever attaches to the device next: a filter's name has a
word by which its keeper can be asked for, a socket address in the same
network namespace that exists as long as the keeper does.

The queue goes with the last filter, if it was not there before: names that
begin with ``osmia+`` say that osmia made it.
"""

from __future__ import annotations

import errno
import os
import time

from osmia.errors import NotSupported, UserError
from osmia.kernel import net
from osmia.kernel.rtnetlink import EGRESS, INGRESS, Rtnetlink
from osmia.link.base import Link, failed, refused
from osmia.link.detach import drop_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from osmia.kernel.rtnetlink import Filter
    from osmia.load.program import LiveProg

_signal = __import__("_signal")
_IGNORED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGPIPE,
            _signal.SIGUSR1, _signal.SIGUSR2)  # fmt: skip
_PATIENCE_S = 2.0
_OURS, _OURS_AND_QUEUE = "osmia", "osmia+"
_ADDRESS = "osmia-tc-"


class FilterLink(Link):
    """A program that is attached as a filter.  ``fds``: the pipe that the keeper waits at, and the connection."""

    __slots__ = ("_device", "_egress", "_keeper", "_netlink", "_word")

    def __init__(self, name: str, device: int, egress: bool, word: str, netlink: Rtnetlink) -> None:
        super().__init__(name, "clsact filter", [])
        self._device = device
        self._egress = egress
        self._word = word
        self._netlink = netlink
        self._keeper = 0

    def start(self, prog: LiveProg) -> None:
        """Have a keeper attach it; raises what it met."""
        gate, ours = os.pipe()
        answer, theirs = os.pipe()
        self._keeper = os.fork()
        if not self._keeper:
            _keep(self, prog, gate, theirs)
        os.close(gate)
        os.close(theirs)
        self.fds = [ours]
        with open(answer, "rb") as stream:
            said = stream.read().decode("utf-8", "replace")
        if said == "0":
            return
        self.close()
        number, _, words = said.partition(" ")
        if not words:
            raise UserError("the process that attaches it has died", where=f"{prog.name} ({self.name})")
        raise _refusal(prog, self.name, int(number), words)

    def close(self) -> None:
        """Detach, and wait until that is done."""
        if not self.fds:
            return
        super().close()
        while True:
            try:
                ended = os.waitpid(self._keeper, 0)[1]
                break
            except InterruptedError:
                continue
            except ChildProcessError:  # somebody else has waited for it
                ended = 1
                break
        if ended:
            self.detach()
        self._netlink.close()

    def attach(self, prog_fd: int, prog_name: str) -> None:
        """What the keeper does first."""
        parent = EGRESS if self._egress else INGRESS
        with _alone(self._device):
            self._tidy()
            made = self._netlink.add_clsact(self._device)
            if not made and self._egress and self._netlink.queue_kind(self._device) == "ingress":
                raise FileExistsError(errno.EEXIST, "the device has an ingress queue, which has no place for egress")
            made = made or any(one.name.startswith(_OURS_AND_QUEUE) for one in self._filters())
            name = f"{_OURS_AND_QUEUE if made else _OURS}:{self._word}:{prog_name}"
            try:
                self._netlink.add_bpf(self._device, parent, prog_fd, name)
            except BaseException:
                self._drop_queue(made)
                raise

    def detach(self) -> None:
        """What the keeper does last: the filter, if it is there, and then perhaps the queue."""
        try:
            with _alone(self._device):
                for one in self._filters():
                    if self._word in one.name.split(":"):
                        self._remove(one)
        except OSError as e:
            if e.errno != errno.ENODEV:  # the device is gone, and so is everything on it
                raise

    def _filters(self) -> list[Filter]:
        return [one for parent in (INGRESS, EGRESS) for one in self._netlink.filters(self._device, parent)]

    def _tidy(self) -> None:
        """Remove filters whose keepers are dead."""
        for one in self._filters():
            kind, _, rest = one.name.partition(":")
            if kind in (_OURS, _OURS_AND_QUEUE) and ":" in rest:
                life = net.claim(_ADDRESS + rest.partition(":")[0])
                if life is not None:
                    life.close()
                    self._remove(one)

    def _remove(self, one: Filter) -> None:
        self._netlink.delete(self._device, one)
        self._drop_queue(one.name.startswith(_OURS_AND_QUEUE))

    def _drop_queue(self, made: bool) -> None:
        if made and not self._filters():
            self._netlink.delete_clsact(self._device)


def attach(prog: LiveProg, device: int, name: str, egress: bool) -> Link:
    """Attach a program to one side of a device.  UserErrors as :func:`osmia.link.tc.attach`."""
    link = FilterLink(name, device, egress, os.urandom(8).hex(), Rtnetlink())
    try:
        link.start(prog)
    except BaseException:
        link._netlink.close()
        raise
    return link


def _refusal(prog: LiveProg, name: str, number: int, words: str) -> UserError:
    where = f"{prog.name} ({name})"
    if number in (errno.EPERM, errno.EACCES):
        return refused("put a filter on a network device", OSError(number, words, "rtnetlink"), where=where)
    if number in (errno.ENOENT, errno.EOPNOTSUPP):
        return NotSupported(f"this kernel has neither links for tc programs (6.6) nor clsact queues with bpf filters "
                            f"({words})", where=where, fix="use socket_filter() to look at packets")  # fmt: skip
    return failed(prog, name, OSError(number, words, "rtnetlink"))


def _keep(link: FilterLink, prog: LiveProg, gate: int, answer: int) -> None:
    """The keeper: attach, answer, wait, detach.  It holds nothing of its parent's but what it needs."""
    status = 1
    try:
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        os.setsid()
        drop_files({gate, answer, prog.fd, link._netlink.fileno()})
        os.chdir("/")
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write("osmia-tc-keeper")
        life = net.claim(_ADDRESS + link._word)
        said = b"0"
        try:
            link.attach(prog.fd, prog.name)
        except OSError as e:
            said = f"{e.errno or errno.EIO} {e.strerror}".encode()
        os.close(prog.fd)  # the filter holds the program
        _answer(answer, said)
        while os.read(gate, 64):
            pass
        link.detach()
        status = 0 if life is not None else 1
    except BaseException:  # a forked Python must never get back into the caller
        pass
    finally:
        os._exit(status)


def _answer(fd: int, said: bytes) -> None:
    """Tell the parent, if it is still there to be told."""
    try:  # noqa: SIM105 - contextlib takes 3 ms to import
        os.write(fd, said)
    except BrokenPipeError:
        pass
    os.close(fd)


class _alone:
    """One at a time at a device.

    Anybody may take such an address, so it is not waited for for ever: it
    only keeps two of us from deciding about one queue at the same moment.
    """

    def __init__(self, device: int) -> None:
        self._name = f"{_ADDRESS}device-{device}"
        self._held: socket.socket | None = None

    def __enter__(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while (held := net.claim(self._name)) is None and time.monotonic() < end:
            time.sleep(0.002)
        self._held = held

    def __exit__(self, *exc: object) -> None:
        if self._held is not None:
            self._held.close()
