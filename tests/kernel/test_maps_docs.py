# SPDX-License-Identifier: Apache-2.0
"""Every kind of map has an example in its docstring, and this kernel takes it."""

from __future__ import annotations

import os
import pathlib
import textwrap

import pytest
from kernel_code import running
from needs import needs

import osmia

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
NAMES = (
    "LruPerCpuHash", "LpmTrie", "Queue", "Stack", "Bloom", "ArrayOfMaps", "HashOfMaps", "ProgArray", "Stacks",
    "StackTraces",    "Counters", "Global", "PerThread", "FlightRecorder", "pinned", "trace_printk",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_example_loads_and_attaches(name: str, tmp_path: pathlib.Path) -> None:
    if name == "Bloom":
        needs("bloom_filter")
    doc = textwrap.dedent("    " + (getattr(osmia, name).__doc__ or ""))
    text = textwrap.dedent(doc.partition("Example::")[2])
    assert "def " in text, f"{name} has no example"
    root = f"/sys/fs/bpf/osmia-docs-{os.getpid()}"
    try:
        with running(text, pin_root=root) as live:
            assert live.live.progs
            for prog in vars(live.module).values():
                if type(prog).__name__ != "Prog" or prog.tail:
                    continue
                live.attach(prog.name, **prog.hooks[0].params)
    finally:
        if os.path.isdir(root):
            os.unlink(f"{root}/reads")
            os.rmdir(root)
