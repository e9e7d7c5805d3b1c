# SPDX-License-Identifier: Apache-2.0
"""Where options say that probes attach."""

from __future__ import annotations

from typing import Any

import pytest

from osmia import fentry, first_of, kprobe, kprobe_multi, option, tp_btf, tracepoint, uprobe, usdt
from osmia.cli import plans
from osmia.lang.probes import Prog


def called() -> None:
    """What is attached."""


@pytest.mark.parametrize(
    ("given", "places"),
    [("", ()), ("c:malloc", ("c:malloc",)), ("sched:a,sched:b", ("sched:a", "sched:b")), (None, ())],
)
def test_what_an_option_says(given: str | None, places: tuple[str, ...]) -> None:
    where = option("--where", type=str)
    where.value = given
    assert plans.told(where) == places
    assert plans.told((where, "vfs_*")) == (*places, "vfs_*")


@pytest.mark.parametrize("kind", [kprobe_multi, uprobe, usdt, tracepoint])
def test_an_optional_program_that_nobody_asked_for(kind: Any) -> None:
    where = option("--where", type=str)
    prog: Prog = kind(where, optional=True)(called)
    assert plans.nowhere(prog)
    where.value = "x:y"
    assert not plans.nowhere(prog)
    prog.optional, where.value = False, ""
    assert not plans.nowhere(prog)  # then it is an error, said where it would attach


def test_what_says_itself_where_it_attaches() -> None:
    assert not plans.nowhere(fentry("vfs_read", optional=True)(called))
    assert not plans.nowhere(tracepoint("sched:sched_switch", optional=True)(called))


def test_the_hook_that_a_run_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that seems to be there, but nothing that needs fentry where that cannot be had."""
    where = option("--where", type=str)
    told = tracepoint(where)(called)
    assert plans.first(told) is told.hooks[0]
    told.enabled = False
    assert plans.first(told) is None
    assert plans.first(tracepoint(where, optional=True)(called)) is None
    prog = first_of(tp_btf("a"), fentry("b"), kprobe("b"))(called)
    by_type, by_trampoline, by_breakpoint = prog.hooks
    for there, fentry_works, expected in (
        ({by_type, by_trampoline, by_breakpoint}, True, by_type),
        ({by_trampoline, by_breakpoint}, True, by_trampoline),
        ({by_trampoline, by_breakpoint}, False, by_breakpoint),
        ({by_trampoline}, False, by_trampoline),
        (set(), True, by_breakpoint),
    ):
        monkeypatch.setattr(plans, "offered", there.__contains__)
        monkeypatch.setattr(plans, "_attachable", lambda works=fentry_works: works)
        assert plans.first(prog) is expected
