# SPDX-License-Identifier: Apache-2.0
"""Options of bcc's tools that name pinned maps; osmia has ``--cgroup`` and ``--container`` instead."""

from __future__ import annotations

from osmia.lang.options import option
from osmia.tools._show import refused

cgroupmap = option("--cgroupmap", type=str, parse=refused("--cgroupmap", "use --cgroup PATH"),
                   help="not here: use --cgroup PATH")  # fmt: skip
mntnsmap = option("--mntnsmap", type=str, parse=refused("--mntnsmap", "use --cgroup PATH"),
                  help="not here: use --cgroup PATH")  # fmt: skip
