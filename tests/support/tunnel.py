# SPDX-License-Identifier: Apache-2.0
"""Two networks whose cable is this process: packets arrive late, or never, as a test wants it.

For what else a queue discipline (netem) would be needed, which many kernels
lack; and here it is known which packet it was that got lost.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from netns import Network, ip, network
from patience import patient

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000  # include/uapi/linux/if_tun.h
MULTI_QUEUE = 0x100
_FILE = "/dev/net/tun"
NEAR, FAR = "10.80.0.1", "10.80.0.2"
NEAR6, FAR6 = "fd00:80::1", "fd00:80::2"
FIN, SYN, RST, ACK = 1, 2, 4, 16  # flags of TCP
_TCP, _MASK = 6, 0xFFFFFFFF


def tun(name: str, flags: int = 0) -> int:
    """A file of the tunnel ``name`` in this network namespace: it reads and writes whole IP packets."""
    if not os.path.exists(_FILE):
        subprocess.run(["modprobe", "tun"], check=True)
    fd = os.open(_FILE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | flags))
    return fd


class Segment:
    """A packet on its way: whether it is TCP, and then its flags, ports, sequence number and the bytes it carries."""

    def __init__(self, data: bytes, outward: bool) -> None:
        self.data = data
        self.outward = outward  # from the near end to the far one
        self.flags = self.size = self.seq = self.sport = self.dport = 0
        version = data[0] >> 4
        start = (data[0] & 15) * 4 if version == 4 else 40
        self.tcp = data[9 if version == 4 else 6] == _TCP
        if self.tcp:
            self.sport, self.dport, self.seq = struct.unpack_from("!HHI", data, start)
            self.flags = data[start + 13]
            self.size = len(data) - start - (data[start + 12] >> 4) * 4


class Cable:
    """``delay``: seconds in each direction.

    ``drop`` says of each :class:`Segment` whether it gets lost, ``deliver`` what comes out of the other end for it.
    """

    def __init__(self, net: Network, near: int, far: int, delay: float) -> None:
        self.net = net
        self.delay = delay
        self.drop: Callable[[Segment], bool] = lambda segment: False
        self.deliver: Callable[[Segment], list[bytes]] = lambda segment: [segment.data]
        self.seen: list[Segment] = []  # all of them, also those that got lost
        self._other = {near: far, far: near}
        self._near = near
        self.far_file = far  # what is written here comes out at the far end
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def lose(self, times: int, which: Callable[[Segment], bool]) -> None:
        """The next ``times`` segments of TCP that are such get lost, and no others."""
        left = times

        def drop(segment: Segment) -> bool:
            nonlocal left
            if not left or not segment.tcp or not which(segment):
                return False
            left -= 1
            return True

        self.drop = drop

    def again(self) -> list[Segment]:
        """The segments that were sent although their sequence numbers had been before."""
        time.sleep(patient(0.05))  # what the kernel has sent comes by here a little later
        ends: dict[tuple[int, int], int] = {}  # by ports: what comes next
        out = []
        for segment in self.seen:
            length = segment.size + bool(segment.flags & SYN) + bool(segment.flags & FIN)
            if not segment.tcp or not length:
                continue
            key, end = (segment.sport, segment.dport), segment.seq + length & _MASK
            if key in ends and segment.seq - ends[key] & _MASK > _MASK >> 1:
                out.append(segment)
            else:
                ends[key] = end
        return out

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while True:
            left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([*self._other, self._ended], [], [], left)
            if self._ended in ready:
                return
            for fd in ready:
                with suppress(BlockingIOError):
                    while True:
                        segment = Segment(os.read(fd, 1 << 16), fd == self._near)
                        self.seen.append(segment)
                        if self.drop(segment):
                            continue
                        for data in self.deliver(segment):
                            count += 1
                            heapq.heappush(waiting, (time.monotonic() + self.delay, count, self._other[fd], data))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, fd, data = heapq.heappop(waiting)
                with suppress(OSError):
                    os.write(fd, data)

    def close(self) -> None:
        os.write(self._end, b"x")
        self._thread.join()
        for fd in (*self._other, self._ended, self._end):
            os.close(fd)


@contextmanager
def cable(delay: float = 0.0) -> Iterator[Cable]:
    """Be at the near end (10.80.0.1) of a cable to 10.80.0.2, in ``Cable.net.other_end()``."""
    with network() as net:
        near = tun("wire0")
        with net.other_end():
            far = tun("wire0")
        for name, address, address6 in ((net.name, NEAR, NEAR6), (net.far, FAR, FAR6)):
            ip("-n", name, "addr", "add", address + "/24", "dev", "wire0")
            ip("-n", name, "addr", "add", address6 + "/64", "dev", "wire0", "nodad")
            ip("-n", name, "link", "set", "wire0", "up")
        made = Cable(net, near, far, delay)
        try:
            yield made
        finally:
            made.close()
