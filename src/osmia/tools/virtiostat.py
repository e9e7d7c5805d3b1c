# SPDX-License-Identifier: Apache-2.0
"""Show how much goes into the queues of virtio devices and comes out of them, by driver, device and queue."""

from __future__ import annotations

import os

from osmia import Col, count_table, option
from osmia.errors import NotSupported
from osmia.kernel import features
from osmia.tools._virtqueues import ADDING, device, driver, lists, sums  # noqa: F401 - options and programs

debug = option("-D", "--debug", "-v", "--verbose", help="show what is loaded and attached, and details of errors")


def prepare():
    if not os.path.isdir("/sys/bus/virtio"):
        raise NotSupported("this machine has no virtio devices: there is no /sys/bus/virtio", where="virtiostat",
                           fix="run it in the virtual machine, and not on its host")  # fmt: skip
    if features.has("kprobe") is False and not features.has("fentry"):
        raise NotSupported("virtio has no tracepoints, and this kernel lets nobody trace its functions",
                           where="virtiostat", fix="a kernel with kprobes or fentry is needed")  # fmt: skip


tool = count_table(
    sums,
    [
        Col("driver", "Driver", 14, align=">"),
        Col("device", "Device", 8, row=lambda one: f"virtio{one.device}", align=">"),
        Col("queue", "VQ Name", 10, align=">"),
        Col("in_sgs", "In SGs", 7),
        Col("out_sgs", "Out SGs", 7),
        Col("in_bytes", "In BW", 14),
        Col("out_bytes", "Out BW", 14),
        Col("index", "VQ", 3),
    ],
    sort=lambda one: (-one.device, -one.index),
    interval=3.0,
    prepare=prepare,
    banner="Tracing virtio devices statistics ... Hit Ctrl-C to end.",
)
