# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that show times as histograms: their unit, and what else is said of them."""

from __future__ import annotations

from osmia.lang.options import option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

timestamp = option("-T", "--timestamp", help="show the time of each summary")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")
pids = option("-P", "--pids", help="one histogram per process")
tids = option("-L", "--tids", help="one histogram per thread")
extension = option("-e", "--extension", help="show average, total and number after each summary")
json = option("-j", "--json", help="print JSON, one object per summary and line")


def in_unit(ns):
    """What a histogram counts of so many ns."""
    return ns // (1_000_000 if milliseconds else 1000)


def unit() -> str:
    """A template's ``unit``."""
    return "msecs" if milliseconds else "usecs"


def summary(shot: Any) -> str:
    """A template's ``footer``: the line of ``-e``."""
    if not extension or not shot.count:
        return ""
    return f"\navg = {shot.sum // shot.count} {unit()}, total: {shot.sum} {unit()}, count: {shot.count}\n"


def split_by(tool: Any, hist: Any, chosen: dict[str, Any], label: Any = str) -> None:
    """For a template's ``prepare``: if one of the options ``chosen`` is given, ``hist`` is shown by what it names."""
    section = next((name for name, one in chosen.items() if one), "")
    if section:
        tool.hist, tool.section, tool.label = hist, section, label
