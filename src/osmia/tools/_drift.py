# SPDX-License-Identifier: Apache-2.0
"""Kernel half: what moved inside the kernel, one small function per change, with the commit that made it."""

from __future__ import annotations

from osmia.lang.builtins import cast, exists
from osmia.lang.types import Kernel, KStruct, s64

GendiskPtr = Kernel["struct gendisk"]


class task_struct___before_5_14(KStruct):
    """2f064a59a11f ("sched: Change task_struct::state", 5.14) renamed the field and made it 32 bits wide."""

    state: s64


def task_state(task):
    """The task's state: 0 while it is runnable."""
    if exists(task.__state):
        return task.__state
    return cast(task, task_struct___before_5_14).state


def queue_comes_first():
    """Whether the block tracepoints have the queue before the request.

    a54895fa057c ("block: remove the request_queue to argument request based
    tracepoints", 5.11) took it away; 0d02129e76ed ("block: merge struct
    block_device and struct hd_struct") came with it, and that can be asked.
    """
    return exists("struct hd_struct")


class request___before_5_17(KStruct):
    """f3fa33acca9f ("block: remove the ->rq_disk field in struct request", 5.17)."""

    rq_disk: GendiskPtr


def request_disk(request):
    """The number of the disk that a block request goes to: the major one from bit 20 up, as the kernel's dev_t."""
    if exists(request.q.disk):
        return _number(request.q.disk)
    return _number(cast(request, request___before_5_17).rq_disk)


def _number(disk):
    return disk.major << 20 | disk.first_minor
