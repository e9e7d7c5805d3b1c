# SPDX-License-Identifier: Apache-2.0
"""Folded stacks: the bytes that flame-graph scripts read, names that cannot break them, the share of cut stacks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import UserError
from osmia.views.folded import fold, read, text
from osmia.views.frames import cut_sentence, cut_share, cut_stack, is_cut

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BOTH = (("sshd", ""), ("main", "u"), ("write", "u"), ("entry_SYSCALL_64", "k"), ("ksys_write", "k"))
names = st.text(min_size=1, max_size=12)
kinds = st.sampled_from(["k", "u", "j", "i", ""])


def test_a_line_is_bcc_s_to_the_byte() -> None:
    assert fold(BOTH, 7) == "sshd;main;write;entry_SYSCALL_64;ksys_write 7"
    assert fold(BOTH, 7, annotate=True) == "sshd;main;write;entry_SYSCALL_64_[k];ksys_write_[k] 7"
    assert fold(BOTH, 7, delimiter=True) == "sshd;main;write;-;entry_SYSCALL_64;ksys_write 7"
    assert fold(BOTH, 7, annotate=True, delimiter=True) == (
        "sshd;main;write;-;entry_SYSCALL_64_[k];ksys_write_[k] 7"
    )


def test_a_stack_of_one_side_has_no_delimiter() -> None:
    assert fold((BOTH[0], *BOTH[3:]), 1, delimiter=True) == "sshd;entry_SYSCALL_64;ksys_write 1"
    assert fold(BOTH[:3], 1, delimiter=True) == "sshd;main;write 1"


def test_marks_of_inlined_and_compiled_frames() -> None:
    stack = (("node", ""), ("f", "j"), ("g", "i"), ("h", "u"))
    assert fold(stack, 2, annotate=True) == "node;f_[j];g_[i];h 2"
    assert list(read(["node;f_[j];g_[i];h 2"])) == [((("node", ""), ("f", "j"), ("g", "i"), ("h", "")), 2)]


def test_text_is_a_line_for_each_stack() -> None:
    assert text([(BOTH[:2], 3), (BOTH[:1], 4)]) == "sshd;main 3\nsshd 4\n"
    assert text([]) == ""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("operator;()", "operator:()"),
        ("evil\n9;root 1", "evil\\n9:root_1"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a b", "a b"),
        ("kworker 12", "kworker_12"),
        ("version 1.5", "version_1.5"),
        ("", "[unknown]"),
        ("std::map<int, int>", "std::map<int, int>"),
    ],
)
def test_names_cannot_break_the_format(name: str, written: str) -> None:
    assert fold((("c", ""), (name, "u")), 5) == f"c;{written} 5"


@patient
@given(st.lists(st.tuples(names, kinds), min_size=1, max_size=6), st.integers(0, 1 << 70), st.booleans())
def test_whatever_the_names_one_line_with_one_number_and_as_many_frames(
    stack: list[Any], count: int, annotate: bool
) -> None:
    line = fold(tuple(stack), count, annotate=annotate)
    assert line.isprintable()
    # How the usual scripts take a line apart: once for the count, and again to see whether it is a comparison.
    found = re.match(r"^(.*)\s+?(\d+(?:\.\d*)?)$", line)
    assert found
    assert int(found[2]) == count
    assert not re.match(r"^(.*)\s+?(\d+(?:\.\d*)?)$", found[1])
    assert len(found[1].split(";")) == len(stack)


@patient
@given(st.lists(st.tuples(st.from_regex(r"[a-z_][a-z0-9:<>, ]{0,8}[a-z>]", fullmatch=True), kinds), min_size=1,
                max_size=6), st.integers(0, 1 << 40))  # fmt: skip
def test_what_was_written_is_read_again(stack: list[Any], count: int) -> None:
    stack[0] = (stack[0][0], "")
    (again,) = read([fold(tuple(stack), count, annotate=True)])
    # User frames carry no mark, so their kind is the one thing that is lost.
    assert again == (tuple((name, "" if kind == "u" else kind) for name, kind in stack), count)


def test_reading_what_has_a_delimiter() -> None:
    for mark in ("-", "--"):
        ((stack, count),) = read([f"sshd;main;{mark};ksys_write;vfs_write 12\n"])
        assert stack == (("sshd", ""), ("main", ""), ("ksys_write", "k"), ("vfs_write", "k"))
        assert count == 12
    assert list(read(["- 1"])) == [((("-", ""),), 1)]  # a process may be called so


def test_reading_skips_empty_lines_and_keeps_blanks_in_names() -> None:
    assert list(read(["", "a b;c d 3", "   "])) == [((("a b", ""), ("c d", "")), 3)]


@pytest.mark.parametrize("line", ["a;b", "a;b x", "a;b 1.5", "12", "a;b -3", "a;b ²"])
def test_a_line_without_a_count_is_named(line: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read(["ok 1", line], "out.folded"))
    assert str(caught.value) == (
        "out.folded:2: a folded stack ends in a blank and a whole number; write lines such as: comm;main;work 42"
    )


def test_cut_stacks_are_labelled_and_their_share_is_told() -> None:
    cut = cut_stack(BOTH)
    assert fold(cut, 1) == "sshd;[truncated];main;write;entry_SYSCALL_64;ksys_write 1"
    assert is_cut(cut)
    assert not is_cut(BOTH)
    assert cut_stack(BOTH[1:], above=0)[0] == ("[truncated]", "")
    assert cut_share([(cut, 25), (BOTH, 975)]) == (25, 1000)
    assert cut_sentence(25, 1000) == "25 of 1,000 samples (2.5 %) have stacks that were cut: see [truncated]"
    assert cut_sentence(1, 10**6, "ns") == (
        "1 of 1,000,000 ns (less than 0.1 %) have stacks that were cut: see [truncated]"
    )
    assert cut_sentence(0, 1000) == ""
