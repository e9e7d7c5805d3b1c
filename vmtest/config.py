# SPDX-License-Identifier: Apache-2.0
"""What is booted and what runs in it.  To add a kernel, add a line to :data:`KERNELS`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
RESULTS = REPO / "vmtest" / "results"
MATRIX = REPO / "docs" / "support_matrix.md"

CPUS = 2
MEMORY = "2G"
#: Seconds from qemu's start to the first sign of life of the guest's command (it takes 4-15 emulated).
BOOT_SECONDS = 240
#: Seconds without a test that begins or ends, after which a guest counts as dead, and for a whole run.
SILENT_SECONDS = 400
RUN_SECONDS = 4 * 3600
#: How often a guest is booted that dies before its end: emulated CPUs stand still now and then.
BOOTS_AT_MOST = 5


@dataclass(frozen=True)
class Kernel:
    """One kernel: the suites whose newest ``linux-image-VERSION*-amd64`` it is.

    ``suites``: ``SUITE`` on the main archive, ``SUITE-security`` on the security archive.
    """

    name: str
    suites: tuple[str, ...]

    @property
    def version(self) -> tuple[int, int]:
        major, minor = self.name.split(".")
        return int(major), int(minor)


KERNELS = (
    Kernel("5.10", ("bullseye", "bullseye-security")),
    Kernel("6.1", ("bookworm", "bookworm-security")),
    Kernel("6.12", ("bookworm-backports", "bookworm-security", "trixie", "trixie-security")),
    Kernel("7.2", ("sid",)),
)


@dataclass(frozen=True)
class Boot:
    """One boot of a kernel: what is added to its command line and which tests run in it.

    ``select`` is pytest's ``-m``.  Surroundings that a process can make for
    itself (no BTF, few capabilities, a cgroup, a PID namespace) need no boot
    of their own: ``tests/vm/test_surroundings.py`` makes them.
    """

    name: str
    what: str
    paths: tuple[str, ...]
    select: str
    append: str = ""


BOOTS = (
    Boot("plain", "root, nothing special", ("tests/vm", "tests/kernel", "tests/tools"),
         "not lockdown and not anywhere"),
    Boot("lockdown", "lockdown=confidentiality on the kernel's command line", ("tests/vm",), "lockdown",
         append="lockdown=confidentiality"),
)  # fmt: skip

#: Rows of the support matrix that tests are put into by their names: what the id must match, the row.  A group in the
#: pattern says how.
ROWS = (
    (r"hooks_user\.py::test_ten_thousand_calls\w*\[(.+)\]", "hook:uprobe"),
    (r"hooks_user\.py::test_arguments_and_results", "hook:uretprobe"),
    (r"hooks_user\.py::test_(?:one_link_where|five_thousand_functions)", "hook:uprobe_multi"),
    (r"hooks_user\.py::test_static_probes_deliver\w*\[(.+)\]", "hook:usdt"),
    (r"hooks_user\.py::test_semaphores", "hook:usdt, semaphores"),
    (r"hooks_user\.py::test_probes_registered_at_run_time", "hook:usdt, registered at run time"),
    (r"maps_kinds\.py::test_queues_and_stacks", "map:Queue, Stack"),
    (r"maps_kinds\.py::test_the_longest_prefix", "map:LpmTrie"),
    (r"maps_kinds\.py::test_a_bloom_filter", "map:Bloom"),
    (r"maps_kinds\.py::test_maps_of_maps", "map:ArrayOfMaps, HashOfMaps"),
    (r"maps_kinds\.py::test_tail_calls", "map:ProgArray and tail calls"),
    (r"maps_kinds\.py::test_variables", "map:Global, PerThread"),
    (r"maps_kinds\.py::test_stacks_by_number", "map:StackTraces"),
    (r"maps_kinds\.py::test_counters_are_read", "map:Counters"),
    (r"maps_kinds\.py::test_lru", "map:LruHash, LruPerCpuHash"),
    (r"maps_kinds\.py::test_many_at_once\[(.+)\]", "map:reading and writing many elements"),
    (r"maps_kinds\.py::test_intervals", "map:exact intervals"),
    (r"maps_pin\.py::", "map:pinned maps and programs"),
    (r"maps_transport\.py::test_(?:everything|every_loss)\w*\[(.+)\]", "map:Ring (events)"),
    (r"maps_transport\.py::test_a_recorder", "map:FlightRecorder"),
    (r"maps_transport\.py::test_the_trace_pipe", "map:trace_printk"),
)

#: What would take too long on an emulated CPU runs in full natively only.  (Tests that say the same on every kernel
#: are marked "anywhere" and not run in guests at all.)
LIGHTER = {"OSMIA_DIFFERENTIAL_MODULES": "3"}
#: Emulated CPUs are some fifteen times slower than real ones: what waits for something waits longer.
PATIENCE = 15


def cache() -> Path:
    """Where kernels and logs are kept: ``$OSMIA_VM_CACHE``, else ``~/.cache/osmia/vm``."""
    chosen = os.environ.get("OSMIA_VM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "osmia" / "vm"

_SYSTEMS = ("ext4", "xfs", "btrfs", "nfs", "f2fs", "zfs")
#: Tools that share a file of tests, by its name: a test there counts for those that its id names, by the tool's name or
#: what it begins with up to "slower" or "dist", and where it names none for all of them.
FAMILIES = {
    "bio_summaries": ("biolatpcts", "biopattern", "biotop", "bitesize", "iolatency"),
    "files": ("dirtop", "fileslower", "filetop"),
    "fs": tuple(f"{system}{kind}" for system in _SYSTEMS for kind in ("slower", "dist")),
    "funclatency": ("funcinterval", "funclatency", "funcslower"),
    "gone": ("filegone", "filelife"),
    "irqs": ("hardirqs", "softirqs"),
    "ksnoop": ("inject", "ksnoop"),
    "lists": ("bpflist", "tplist"),
}  # fmt: skip
