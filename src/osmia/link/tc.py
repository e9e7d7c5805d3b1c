# SPDX-License-Identifier: Apache-2.0
"""tc programs by tcx links (6.6).

Before that a program is attached by netlink, as a filter of a clsact queue
that has to be made for it.  Both stay on the device when the process dies,
which is what no probe of ours may do, so older kernels are refused.
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


def attach(prog: LiveProg, target: str = "", *, device: str = "", direction: str = "") -> Link:
    """Attach to a device; ``direction`` is ``ingress`` or ``egress`` (default: what the program is for).

    It runs after the programs that are there already.  NotFound for a device
    that does not exist, NotSupported before 6.6.
    """
    name = device or target
    if not name:
        raise UserError("which network device?", where=prog.name, fix='write tc("eth0", "ingress")')
    where = f"{prog.name} ({name})"
    index = net.ifindex(name, where)
    egress = direction == "egress" if direction else prog.spec.attach_type == consts.BPF_TCX_EGRESS
    kind = consts.BPF_TCX_EGRESS if egress else consts.BPF_TCX_INGRESS
    try:
        return Link(name, "tcx link", [bpf.link_create(prog.fd, index, kind)])
    except OSError as e:
        if e.errno == errno.EINVAL:
            raise NotSupported(
                "this kernel has no links for tc programs (Linux 6.6), and without one the program would stay on the "
                "device when osmia ends", where=where, fix="use socket_filter() to look at packets",
            ) from None  # fmt: skip
        raise failed(prog, name, e) from None
