# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that count by stack: the options that choose stacks, and how a key gets its own."""

from __future__ import annotations

import os

from osmia.errors import OptionError
from osmia.lang.copies import copies
from osmia.lang.images import image
from osmia.lang.options import Option, option
from osmia.tools._show import whole

user_only = option("-U", "--user-stacks-only", help="user stacks only, without what the kernel does for them")
kernel_only = option("-K", "--kernel-stacks-only", help="kernel stacks only")
delimited = option("-d", "--delimited", help="put a line (-f: a frame) between user and kernel frames")
folded = option("-f", "--folded", help="one line a stack, for flame graphs")
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip
recorded = Option("recorded")  # nobody gives it: whether osmia record wants each sample by itself, with its time
dwarf = option("--dwarf", help="whole user stacks of programs without frame pointers (with -p; x86-64)")


def is_recorded():
    """Whether each sample is to be told by itself."""
    return recorded


def take_stacks(key, stacks):
    """Put the current stacks that are asked for into ``key``, with the fields ``user``, ``since`` and ``kernel``."""
    if not kernel_only:
        key.user = stacks.user()
        if key.user:
            key.since = image()
    if not user_only:
        key.kernel = stacks.kernel()


def kinds():
    """The stacks that were chosen, in words."""
    return "user" if user_only else "kernel" if kernel_only else "user + kernel"


def check_kinds(tool):
    """OptionError where neither kind is left."""
    if user_only and kernel_only:
        raise OptionError("-U and -K exclude each other", where=tool, fix="leave both out for both kinds")


def size(stacks, counts):
    """Room for as many stacks, and sums by stack, as ``--stack-storage-size`` says."""
    stacks.max_entries = storage.value
    counts.max_entries = max(storage.value, storage.default)


def check_dwarf(tool, one_is_chosen):
    """OptionError where copies of stacks are of no use; room for them else."""
    if not dwarf:
        return
    if kernel_only or not one_is_chosen:
        raise OptionError("--dwarf is for user stacks of chosen processes", where=tool, fix="give -p PID")
    if os.uname().machine != "x86_64":
        raise OptionError("--dwarf follows stacks of x86-64 only", where=tool, fix="leave it out")
    copies.max_entries = 4 << 20
