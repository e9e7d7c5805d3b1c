# SPDX-License-Identifier: Apache-2.0
"""XDP: the program sees a device's packets before the kernel does.

A link (5.9) and not the older netlink message, which would leave the program
on the device when the process is gone.
"""

from __future__ import annotations

import errno

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, net
from osmia.link.base import Link, failed
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg

_SKB_MODE = 1 << 1  # XDP_FLAGS_SKB_MODE, include/uapi/linux/if_link.h
#: Errors of drivers that cannot run programs as the device is set up (frame size, features, queues).
_DRIVER = (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOSPC, errno.ENOMEM, bpf.ENOTSUPP)


def attach(prog: LiveProg, target: str = "", *, device: str = "", generic: bool = False) -> Link:
    """Attach to a device: in its driver where that can do it, else (or with ``generic``) behind it.

    ``how`` is ``xdp link``, with ``generic`` where the program runs behind
    the driver.  NotFound for a device that does not exist, UserError where
    another program is attached already, NotSupported before 5.9.
    """
    name = device or target
    if not name:
        raise UserError("which network device?", where=prog.name, fix='write xdp("eth0")')
    index = net.ifindex(name, f"{prog.name} ({name})")
    if not generic:
        try:
            return Link(name, "xdp link", [bpf.link_create(prog.fd, index, consts.BPF_XDP)])
        except OSError as e:
            if e.errno not in _DRIVER:
                raise failed(prog, name, e) from None
    try:
        made = bpf.link_create(prog.fd, index, consts.BPF_XDP, flags=_SKB_MODE)
    except OSError as e:
        if e.errno == errno.EINVAL:
            raise NotSupported("this kernel has no links for XDP programs (Linux 5.9)", where=f"{prog.name} ({name})",
                               fix="use socket_filter() to look at packets") from None  # fmt: skip
        raise failed(prog, name, e) from None
    return Link(name, "xdp link, generic", [made])
