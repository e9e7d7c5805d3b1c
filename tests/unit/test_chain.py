# SPDX-License-Identifier: Apache-2.0
"""inject's chains: how they are read, and when a thread is within one (its kernel half runs as Python here)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from osmia.errors import OptionError
from osmia.lang.builtins import machine
from osmia.tools import _chain
from osmia.tools._chain import enters, frames, leaves, verdict

ENOMEM = -12


@pytest.fixture(autouse=True)
def _as_new() -> Iterator[None]:
    for one in (_chain.reached, _chain.depths, _chain.marks, _chain.passed, _chain.failed):
        one.clear()
    options = (_chain.length, _chain.asks, _chain.most, _chain.chances)
    for one in options:
        one.value = one.default
    yield
    for one in options:
        one.value = one.default
    machine.random = lambda: 4
    machine.pid = 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SyS_mount()", [("SyS_mount", "", "")]),
        ("(true) => SyS_mount()(true)", [("", "", ""), ("SyS_mount", "", "")]),
        ("mount_subtree() => btrfs_mount()", [("mount_subtree", "", ""), ("btrfs_mount", "", "")]),
        (
            "d_alloc_parallel(struct dentry *parent, const struct qstr *name)(STRCMP(name->name, 'bananas'))",
            [("d_alloc_parallel", "struct dentry *parent, const struct qstr *name", 'STRCMP("bananas", name->name)')],
        ),
        ("f(int a)(a > (1 + 2) * 3) => g()", [("f", "int a", "a > (1 + 2) * 3"), ("g", "", "")]),
        ("(order == 1) => f()", [("", "", "order == 1"), ("f", "", "")]),
    ],
)
def test_chains_as_bcc_spells_them(text: str, found: list[tuple[str, str, str]]) -> None:
    assert [(one.name, one.signature, one.predicate) for one in frames(text)] == found


@pytest.mark.parametrize("text", ["f", "f(", "f())", "f()()()", "f() x", "1f()", "f() =>", ""])
def test_what_is_no_chain(text: str) -> None:
    with pytest.raises(OptionError):
        frames(text)


def test_only_within_the_whole_chain_in_its_order() -> None:
    _chain.length.value = 2
    assert verdict(ENOMEM) == 0
    enters(1, True)  # the inner function alone
    assert verdict(ENOMEM) == 0
    leaves(1)
    enters(0, True)
    assert verdict(ENOMEM) == 0
    enters(1, False)  # its predicate does not hold
    assert verdict(ENOMEM) == 0
    leaves(1)
    enters(1, True)
    assert verdict(ENOMEM) == ENOMEM
    machine.pid = 2  # another thread
    assert verdict(ENOMEM) == 0
    machine.pid = 1
    leaves(1)
    assert verdict(ENOMEM) == 0
    leaves(0)
    assert _chain.failed[0] == 1 and dict(_chain.reached) == {} and dict(_chain.depths) == {}


def test_functions_that_call_themselves_count_once() -> None:
    _chain.length.value = 1
    enters(0, False)
    enters(0, True)
    enters(0, True)
    leaves(0)  # of the innermost: the call that counts goes on
    assert verdict(ENOMEM) == ENOMEM
    leaves(0)
    assert verdict(ENOMEM) == 0
    leaves(0)
    assert dict(_chain.depths) == {} == dict(_chain.marks)


def test_how_often_and_how_likely() -> None:
    _chain.most.value = 3
    assert [verdict(ENOMEM) for _ in range(5)] == [ENOMEM] * 3 + [0, 0]
    _chain.most.value = 0
    _chain.chances.value = 1 << 31
    machine.random = lambda: 1 << 31
    assert verdict(ENOMEM) == 0
    machine.random = lambda: (1 << 31) - 1
    assert verdict(ENOMEM) == ENOMEM
    _chain.length.value = 1  # it is drawn once for each chain, not for each call in it
    machine.random = lambda: 1 << 31
    enters(0, True)
    assert verdict(ENOMEM) == 0


def test_the_innermost_predicate_holds_for_one_call() -> None:
    _chain.asks.value = True
    assert verdict(ENOMEM) == 0
    _chain.passed[1] = 1
    assert (verdict(ENOMEM), verdict(ENOMEM)) == (ENOMEM, 0)
