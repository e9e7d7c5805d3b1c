# SPDX-License-Identifier: Apache-2.0
"""tc programs: by tcx links (6.6), which end with the process, else as filters of a queue that a child takes off."""

from __future__ import annotations

import errno

from osmia.errors import UserError
from osmia.kernel import bpf, features, net
from osmia.link.base import Link, failed
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str = "", *, device: str = "", direction: str = "") -> Link:
    """Attach to a device; ``direction`` is ``ingress`` or ``egress`` (default: what the program is for).

    It runs after the programs that are there already.  ``how`` is ``tcx
    link`` or ``clsact filter`` (:mod:`osmia.link.tc_filter`).  NotFound for a
    device that does not exist, NotSupported where the kernel has neither.
    """
    name = device or target
    if not name:
        raise UserError("which network device?", where=prog.name, fix='write tc("eth0", "ingress")')
    index = net.ifindex(name, f"{prog.name} ({name})")
    egress = direction == "egress" if direction else prog.spec.attach_type == consts.BPF_TCX_EGRESS
    kind = consts.BPF_TCX_EGRESS if egress else consts.BPF_TCX_INGRESS
    if not features.off("tcx"):
        try:
            return Link(name, "tcx link", [bpf.link_create(prog.fd, index, kind)])
        except OSError as e:
            if e.errno != errno.EINVAL or features.has("tcx"):
                raise failed(prog, name, e) from None
    from osmia.link import tc_filter

    return tc_filter.attach(prog, index, name, egress)
