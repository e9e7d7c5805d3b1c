# SPDX-License-Identifier: Apache-2.0
"""A small kernel for the compiler's unit tests: the types that their kernel code names, and no others."""

from __future__ import annotations

import functools

from osmia.obj.btf import Btf
from osmia.obj.btf_write import SIGNED, BtfBuilder


@functools.cache
def mini_btf() -> Btf:
    """``task_struct``, ``request``, a tracepoint's record, a raw tracepoint, an iterator, ``bpf_perf_event_data``."""
    b = BtfBuilder()
    u32, u64 = b.add_int("unsigned int", 4), b.add_int("unsigned long", 8)
    s32, char = b.add_int("int", 4, SIGNED), b.add_int("char", 1, SIGNED)
    boolean = b.add_int("_Bool", 1, 4)
    char_ptr = b.add_ptr(char)
    task_fwd = b.add_fwd("task_struct")
    task_ptr = b.add_ptr(task_fwd)
    mm = b.add_struct("mm_struct", 16, [("total_vm", u64, 0), ("owner", task_ptr, 64)])
    b.add_struct("task_struct", 64, [
        ("pid", s32, 0), ("tgid", s32, 32), ("comm", b.add_array(char, 16), 64), ("real_parent", task_ptr, 192),
        ("mm", b.add_ptr(mm), 256), ("in_execve", u32, 320, 1), ("flags", u32, 352), ("name", char_ptr, 384),
    ])
    head = b.add_struct("trace_entry", 8, [("type", u32, 0)])
    b.add_struct("trace_event_raw_block_rq", 40, [
        ("ent", head, 0), ("dev", u32, 64), ("sector", u64, 128), ("nr_sector", u32, 192), ("bytes", u32, 224),
        ("comm", b.add_array(char, 8), 256),
    ])
    b.add_struct("trace_event_raw_sched_process_exec", 24, [
        ("ent", head, 0), ("__data_loc_filename", u32, 64), ("pid", s32, 96), ("old_pid", s32, 128),
    ])
    proto = b.add_func_proto(0, [
        ("__data", b.add_ptr(0)), ("preempt", boolean), ("prev", task_ptr), ("next", task_ptr), ("state", u32),
    ])
    b.add_typedef("btf_trace_sched_switch", b.add_ptr(proto))
    meta = b.add_struct("bpf_iter_meta", 16, [("seq_num", u64, 0)])
    b.add_struct("bpf_iter__task", 16, [("meta", b.add_ptr(meta), 0), ("task", task_ptr, 64)])
    b.add_struct("bpf_perf_event_data", 24, [("sample_period", u64, 0), ("addr", u64, 64)])
    b.add_struct("open_how", 24, [("flags", u64, 0), ("mode", u64, 64), ("resolve", u64, 128)])
    b.add_enum("bpf_func_id", [("BPF_FUNC_unspec", 0), ("BPF_FUNC_loop", 181)])
    return Btf(b.bytes(), name="mini kernel")


FORMATS = {
    ("block", "block_rq_issue"): """name: block_rq_issue
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;
\tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;
\tfield:unsigned int bytes;\toffset:28;\tsize:4;\tsigned:0;
\tfield:char comm[8];\toffset:32;\tsize:8;\tsigned:0;

print fmt: ""
""",
}


def tracepoint_format(category: str, event: str) -> str | None:
    """The format text of a tracepoint of the small kernel."""
    return FORMATS.get((category, event))
