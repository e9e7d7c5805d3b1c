# SPDX-License-Identifier: Apache-2.0
"""Kernel half: leaving out what osmia itself does, in tools that look at whatever they are told to.

A tool that prints would otherwise see its own prints, and print them.
"""

from __future__ import annotations

from osmia.lang.options import option
from osmia.lang.pidns import current_is_process
from osmia.lang.types import u32

#: osmia's own process, as people know it; 0: nothing is left out.
itself = option("own-process", type=u32)


def is_itself():
    """Whether the current task is osmia, and osmia is to be left out."""
    return itself != 0 and current_is_process(itself)
