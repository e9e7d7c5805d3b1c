# SPDX-License-Identifier: Apache-2.0
"""What is typed to say where to attach."""

from __future__ import annotations

import pytest

from osmia.errors import OptionError
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, parse


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
