# SPDX-License-Identifier: Apache-2.0
"""Count calls of kernel functions whose names match a pattern: one program, however many they are."""

from osmia import Col, Hash, count_table, func_ip, kprobe_multi, option, run, u64
from osmia.kernel.kallsyms import symbol

pattern = option("pattern", type=str, default="vfs_*", help="names of functions, as in the shell")
calls = Hash[u64, u64]()


@kprobe_multi(pattern)
def called():
    calls[func_ip()] += 1


tool = count_table(calls, [Col("key", "FUNCTION", 40, align="<", show=symbol), Col("count")])

run()
