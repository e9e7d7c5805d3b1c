# SPDX-License-Identifier: Apache-2.0
"""Garbage collections of Python programs, by generation, and how long they took."""
from osmia import Hash, current, histogram, ktime, log2_hist, run, s32, u32, u64, usdt
from osmia.lang.filters import pid, wanted  # noqa: F401 - an option

begun = Hash[u32, tuple[u64, s32]]()
took = log2_hist("usecs", key=s32)


@usdt("/usr/bin/python3:python:gc__start")
def start(generation):
    if wanted():
        begun[current.pid] = ktime(), generation


@usdt("/usr/bin/python3:python:gc__done")
def done(collected):
    when = begun.pop(current.pid)
    if when:
        took[when[1]].add((ktime() - when[0]) // 1000)


tool = histogram(took, section="generation")
run()
