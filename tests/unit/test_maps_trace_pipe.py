# SPDX-License-Identifier: Apache-2.0
"""Lines of the trace pipe as fields."""

from __future__ import annotations

import pytest

from osmia.kernel.trace_pipe import lost_in, parse

LINES = [
    ("          <idle>-0       [001] d.s3.  1234.567890: bpf_trace_printk: hello world",
     ("<idle>", 0, 1, "d.s3.", 1234.56789, "bpf_trace_printk", "hello world")),
    ("            bash-4242    [000] d..31    99.000001: bpf_trace_printk: a: b -1 [x]",
     ("bash", 4242, 0, "d..31", 99.000001, "bpf_trace_printk", "a: b -1 [x]")),
    ("  my-odd name-77    [012] .... 5.5: bpf_trace_printk: ",
     ("my-odd name", 77, 12, "....", 5.5, "bpf_trace_printk", "")),
    ("           <...>-9       [003] d...1 10.250000: sched_switch: prev_comm=a ==> b",
     ("<...>", 9, 3, "d...1", 10.25, "sched_switch", "prev_comm=a ==> b")),
    ("            bash-4242    (   4242) [000] d..31    99.000001: bpf_trace_printk: with tgid",
     ("bash", 4242, 0, "d..31", 99.000001, "bpf_trace_printk", "with tgid")),
    ("            bash-4242    [000]    99.000001: bpf_trace_printk: no flags",
     ("bash", 4242, 0, "", 99.000001, "bpf_trace_printk", "no flags")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fields"), LINES)
def test_fields(text: str, fields: tuple[object, ...]) -> None:
    line = parse(text)
    assert line is not None
    assert (line.task, line.pid, line.cpu, line.flags, line.timestamp, line.function, line.message) == fields


def test_what_is_no_line() -> None:
    assert parse("# tracer: nop") is None and parse("") is None
    assert lost_in("CPU:1 [LOST 23 EVENTS]") == 23
    assert lost_in("CPU:1 [LOST many EVENTS]") == 0
