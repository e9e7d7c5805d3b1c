# SPDX-License-Identifier: Apache-2.0
"""Names from the traced world: nothing unprintable gets through, nothing printable is changed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.views.escape import EscapeCache, escape, escape_bytes, is_safe

# The machine may be busy, and the first draw of any text builds tables of Unicode.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Surrogates too: that is what surrogateescape makes of bytes.
any_text = st.text(st.characters())


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("/usr/bin/ls", "/usr/bin/ls"),
        ("", ""),
        ("a b", "a b"),
        ("größe-文件-Ж", "größe-文件-Ж"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),  # CSI in one character, obeyed by some terminals
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("exe\u202egpj.sh", "exe\\u202egpj.sh"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("\U000e0041", "\\U000e0041"),
        ("C:\\x1b", "C:\\x1b"),  # a backslash is ordinary text
    ],
)
def test_escape_examples(raw: str, shown: str) -> None:
    assert escape(raw) == shown


@patient
@given(any_text)
def test_escaped_text_is_printable_encodable_and_stable(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert escape(shown) == shown
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@patient
@given(any_text)
def test_printable_characters_pass_unchanged(text: str) -> None:
    kept = "".join(char for char in text if char.isprintable())
    assert escape(kept) == kept
    assert len(escape(text)) >= len(text)


@patient
@given(st.binary())
def test_bytes_of_any_kind(raw: bytes) -> None:
    shown = escape_bytes(raw)
    assert shown.isprintable()
    assert shown == escape(raw.decode("utf-8", "surrogateescape"))


def test_bytes_that_are_not_utf8_are_visible() -> None:
    assert escape_bytes(b"ab\xffc\xc3") == "ab\\xffc\\xc3"
    assert escape_bytes("größe".encode()) == "größe"


@patient
@given(any_text | st.text(st.characters(max_codepoint=127)))
def test_is_safe_is_isprintable(text: str) -> None:
    assert is_safe(text) == text.isprintable()


@patient
@given(st.lists(st.binary(max_size=3)), st.integers(1, 5))
def test_cache_answers_as_the_function_and_stays_small(names: list[bytes], limit: int) -> None:
    cache = EscapeCache(limit)
    for name in names:
        assert cache[name] == escape_bytes(name)
        assert len(cache) <= limit


def test_cache_remembers() -> None:
    cache = EscapeCache()
    first = cache[b"a\x1b"]
    assert cache[b"a\x1b"] is first
