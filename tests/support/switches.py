# SPDX-License-Identifier: Apache-2.0
"""How often a thread has left its CPU, as the kernel counts it: a sleep that is over at once is no switch."""

from __future__ import annotations

import resource


def switches() -> int:
    """Context switches of the calling thread so far."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nvcsw + usage.ru_nivcsw
