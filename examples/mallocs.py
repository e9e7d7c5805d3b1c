# SPDX-License-Identifier: Apache-2.0
"""Sizes that programs ask malloc() for, all programs or one (-p PID)."""
from osmia import histogram, log2_hist, run, uprobe
from osmia.lang.filters import pid, wanted  # noqa: F401 - an option

size = log2_hist("bytes")


@uprobe("c:malloc")
def malloc(n):
    if wanted():
        size.add(n)


tool = histogram(size)
run()
