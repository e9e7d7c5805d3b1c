# SPDX-License-Identifier: Apache-2.0
"""osmia: BPF tracing for Linux in plain Python.

``from osmia import tracepoint, log2_hist, run`` is all that a tool needs;
everything that authors write with is here.
"""

from __future__ import annotations

from osmia.lang.builtins import (
    attach_cookie,
    boot_ktime,
    cast,
    cgroup_under,
    container_of,
    cpu,
    current,
    enum_exists,
    enum_value,
    exists,
    fls,
    func_ip,
    kernel_str,
    ktime,
    lost,
    machine,
    random,
    read_kernel,
    read_user,
    sizeof,
    subprogram,
    tail_call,
    trace_printk,
    user_str,
)
from osmia.lang.function_probes import (
    fentry,
    fexit,
    fmod_ret,
    kprobe,
    kprobe_multi,
    kretprobe,
    kretprobe_multi,
    lsm,
)
from osmia.lang.hist import linear_hist, log2_hist, loglin_hist
from osmia.lang.maps import Array, Hash, LruHash, PerCpuArray, PerCpuHash, Ring, pinned
from osmia.lang.options import option
from osmia.lang.probes import (
    first_of,
    iterator,
    perf_event,
    raw_tracepoint,
    syscall_prog,
    tail_program,
    tp_btf,
    tracepoint,
)
from osmia.lang.templates import Col, before_attach, count_table, event_table, histogram, stack_table
from osmia.lang.types import Array as FixedArray
from osmia.lang.types import (
    Bytes,
    Comm,
    Data,
    Event,
    Kernel,
    KStruct,
    Path,
    Str,
    Strs,
    User,
    s8,
    s16,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
)
from osmia.lang.user_probes import uprobe, uretprobe, usdt
from osmia.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.lang.maps_more import Bloom, LpmTrie, LruPerCpuHash, Queue, Stack
    from osmia.lang.maps_special import (
        ArrayOfMaps,
        Counters,
        Global,
        HashOfMaps,
        PerThread,
        ProgArray,
        StackTraces,
    )
    from osmia.lang.net_probes import (
        TC_DROP,
        TC_NEXT,
        TC_PASS,
        XDP_ABORTED,
        XDP_DROP,
        XDP_PASS,
        XDP_TX,
        Packet,
        socket_filter,
        tc,
        xdp,
    )
    from osmia.lang.recorder import FlightRecorder
    from osmia.lang.stacks import Stacks
    from osmia.load.pin import open_as as open_map

#: What few tools use is imported when it is asked for: a warm start counts in milliseconds.
_LATER = {
    **dict.fromkeys(("Bloom", "LpmTrie", "LruPerCpuHash", "Queue", "Stack"), ("osmia.lang.maps_more", "")),
    **dict.fromkeys(
        ("ArrayOfMaps", "Counters", "Global", "HashOfMaps", "PerThread", "ProgArray", "StackTraces"),
        ("osmia.lang.maps_special", ""),
    ),
    **dict.fromkeys(
        (
            "Packet", "TC_DROP", "TC_NEXT", "TC_PASS", "XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX",
            "socket_filter", "tc", "xdp",
        ),
        ("osmia.lang.net_probes", ""),
    ),
    "FlightRecorder": ("osmia.lang.recorder", ""),
    "Stacks": ("osmia.lang.stacks", ""),
    "open_map": ("osmia.load.pin", "open_as"),
}

__all__ = [
    "TC_DROP",
    "TC_NEXT",
    "TC_PASS",
    "XDP_ABORTED",
    "XDP_DROP",
    "XDP_PASS",
    "XDP_TX",
    "Array",
    "ArrayOfMaps",
    "Bloom",
    "Bytes",
    "Col",
    "Comm",
    "Counters",
    "Data",
    "Event",
    "FixedArray",
    "FlightRecorder",
    "Global",
    "Hash",
    "HashOfMaps",
    "KStruct",
    "Kernel",
    "LpmTrie",
    "LruHash",
    "LruPerCpuHash",
    "Packet",
    "Path",
    "PerCpuArray",
    "PerCpuHash",
    "PerThread",
    "ProgArray",
    "Queue",
    "Ring",
    "Stack",
    "StackTraces",
    "Stacks",
    "Str",
    "Strs",
    "User",
    "__version__",
    "attach_cookie",
    "before_attach",
    "boot_ktime",
    "cast",
    "cgroup_under",
    "container_of",
    "count_table",
    "cpu",
    "current",
    "enum_exists",
    "enum_value",
    "event_table",
    "exists",
    "fentry",
    "fexit",
    "first_of",
    "fls",
    "fmod_ret",
    "func_ip",
    "histogram",
    "iterator",
    "kernel_str",
    "kprobe",
    "kprobe_multi",
    "kretprobe",
    "kretprobe_multi",
    "ktime",
    "linear_hist",
    "log2_hist",
    "loglin_hist",
    "lost",
    "lsm",
    "machine",
    "open_map",
    "option",
    "perf_event",
    "pinned",
    "random",
    "raw_tracepoint",
    "read_kernel",
    "read_user",
    "run",
    "s8",
    "s16",
    "s32",
    "s64",
    "sizeof",
    "socket_filter",
    "stack_table",
    "subprogram",
    "syscall_prog",
    "tail_call",
    "tail_program",
    "tc",
    "tp_btf",
    "trace_printk",
    "tracepoint",
    "u8",
    "u16",
    "u32",
    "u64",
    "uprobe",
    "uretprobe",
    "usdt",
    "user_str",
    "xdp",
]


def __getattr__(name: str) -> Any:
    found = _LATER.get(name)
    if found is None:
        raise AttributeError(f"module 'osmia' has no attribute {name!r}")
    module = __import__(found[0], fromlist=["*"])
    value = globals()[name] = getattr(module, found[1] or name)
    return value


def run() -> None:
    """Run the calling module as a tool: compile, load, attach, show, until Ctrl-C.  Does nothing when imported."""
    import sys

    caller = sys._getframe(1).f_globals
    if caller.get("__name__") != "__main__":
        return
    from osmia.cli.main import run_module

    sys.exit(run_module(caller, sys.argv[1:]))
