# SPDX-License-Identifier: Apache-2.0
"""What is typed to say where to attach."""

from __future__ import annotations

import pytest

from osmia.errors import OptionError
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, WITH_RETURNS, parse


@pytest.mark.parametrize(
    ("text", "kind", "file", "name"),
    [
        ("vfs_read", FUNCTION, "", "vfs_read"),
        ("vfs_*", FUNCTION, "", "vfs_*"),
        ("p:vfs_read", FUNCTION, "", "vfs_read"),
        ("p::vfs_read", FUNCTION, "", "vfs_read"),
        ("p::nf_tables:nft_*", FUNCTION, "", "nf_tables:nft_*"),
        ("c:malloc", USER, "c", "malloc"),
        ("p:c:str*", USER, "c", "str*"),
        ("/usr/bin/bash:readline", USER, "/usr/bin/bash", "readline"),
        ("p:/opt/a.out:std::vector", USER, "/opt/a.out", "std::vector"),
        ("z:deflate", USER, "z", "deflate"),
        ("t:sched:sched_switch", TRACEPOINT, "sched", "sched_switch"),
        ("t:block:*", TRACEPOINT, "block", "*"),
        ("u:python3:gc__start", STATIC, "python3", "gc__start"),
        ("u:python3:python:gc__start", STATIC, "python3", "python:gc__start"),
        ("p:c:[[:alpha:]]+", USER, "c", "[[:alpha:]]+"),
    ],
)
def test_forms(text: str, kind: str, file: str, name: str) -> None:
    spec = parse(text)
    assert (spec.kind, spec.file, spec.name, spec.text) == (kind, file, name, text)
    assert spec.place == (f"{file}:{name}" if file else name)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "p:FUNCTION"),
        ("vfs read", "p:FUNCTION"),
        ("p:", "p:FUNCTION"),
        ("p:c:", "p:FUNCTION"),
        ("c:", "p:FUNCTION"),
        ("t:sched", "t:CATEGORY:EVENT"),
        ("t::sched_switch", "t:CATEGORY:EVENT"),
        ("t:sched:", "t:CATEGORY:EVENT"),
        ("u:python3", "u:FILE:NAME"),
        ("u::gc__start", "u:FILE:NAME"),
        ("r:c:malloc", "one of the kinds p:, t:, u:"),
    ],
)
def test_what_says_nothing(text: str, form: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert form in str(caught.value) and repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "file", "name", "returns"),
    [
        ("r::vfs_read", FUNCTION, "", "vfs_read", True),
        ("r:vfs_read", FUNCTION, "", "vfs_read", True),
        ("r:c:read", USER, "c", "read", True),
        ("::vfs_read", FUNCTION, "", "vfs_read", False),
        (":c:malloc", USER, "c", "malloc", False),
        ("t:sched:sched_switch", TRACEPOINT, "sched", "sched_switch", False),
    ],
)
def test_returns(text: str, kind: str, file: str, name: str, returns: bool) -> None:
    spec = parse(text, WITH_RETURNS)
    assert (spec.kind, spec.file, spec.name, spec.returns) == (kind, file, name, returns)
    assert spec.letter == ("r" if returns else {FUNCTION: "p", USER: "p", TRACEPOINT: "t"}[kind])


def test_offsets() -> None:
    spec = parse("kfree_skb+0x12")
    assert (spec.function, spec.offset, spec.name) == ("kfree_skb", 0x12, "kfree_skb+0x12")
    assert (parse("c:malloc").offset, parse("p:/tmp/a.out:main+16").offset) == (0, 16)
    with pytest.raises(OptionError, match="'x12' is not an offset"):
        parse("kfree_skb+x12").offset  # noqa: B018


def test_patterns() -> None:
    assert [parse(text).is_pattern for text in ("vfs_*", "c:str?py", "vfs_read", "t:sched:*")] == [
        True, True, False, True,
    ]  # fmt: skip
