# SPDX-License-Identifier: Apache-2.0
"""osmia: BPF tracing for Linux in plain Python.

``from osmia import tracepoint, log2_hist, run`` is all that a tool needs;
everything that authors write with is here.
"""

from osmia.lang.builtins import (
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
    kernel_str,
    ktime,
    lost,
    machine,
    random,
    read_kernel,
    read_user,
    sizeof,
    subprogram,
    user_str,
)
from osmia.lang.hist import linear_hist, log2_hist, loglin_hist
from osmia.lang.maps import Array, Hash, LruHash, PerCpuArray, PerCpuHash, Ring
from osmia.lang.options import option
from osmia.lang.probes import (
    first_of,
    iterator,
    perf_event,
    raw_tracepoint,
    syscall_prog,
    tp_btf,
    tracepoint,
)
from osmia.lang.templates import Col, count_table, event_table, histogram
from osmia.lang.types import Array as FixedArray
from osmia.lang.types import (
    Bytes,
    Comm,
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
from osmia.version import __version__

__all__ = [
    "Array",
    "Bytes",
    "Col",
    "Comm",
    "Event",
    "FixedArray",
    "Hash",
    "KStruct",
    "Kernel",
    "LruHash",
    "Path",
    "PerCpuArray",
    "PerCpuHash",
    "Ring",
    "Str",
    "Strs",
    "User",
    "__version__",
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
    "first_of",
    "fls",
    "histogram",
    "iterator",
    "kernel_str",
    "ktime",
    "linear_hist",
    "log2_hist",
    "loglin_hist",
    "lost",
    "machine",
    "option",
    "perf_event",
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
    "subprogram",
    "syscall_prog",
    "tp_btf",
    "tracepoint",
    "u8",
    "u16",
    "u32",
    "u64",
    "user_str",
]


def run() -> None:
    """Run the calling module as a tool: compile, load, attach, show, until Ctrl-C.  Does nothing when imported."""
    import sys

    caller = sys._getframe(1).f_globals
    if caller.get("__name__") != "__main__":
        return
    from osmia.cli.main import run_module

    sys.exit(run_module(caller, sys.argv[1:]))
