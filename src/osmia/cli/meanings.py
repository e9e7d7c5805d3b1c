# SPDX-License-Identifier: Apache-2.0
"""What words mean to :mod:`osmia.cli.finding`: which say nothing, and which say the same."""

from __future__ import annotations

_NOTHING = """
a about all also an and any are as at be been being between bpf but by can cannot could did do does doing done
during each else ever every few find for from get gets getting give go goes had has have having he her high
him his how i if in into is it its just kernel know large let like linux low machine many me more most much my
need no not now of on one only or other our out over own please same say see seem seems server she should show
shows so some somebody something such system tell that the their them then there these they thing things this
those to too tool tools trace tracing up us use used uses using very want was we were what when where which
while who whom whose why will with would you your
"""
#: Words that everything is about, or nothing.
STOP = frozenset(_NOTHING.split())
#: Several words that are one.
PHRASES = {
    "i/o": "io", "block device": "disk", "block devices": "disk", "file system": "filesystem",
    "file systems": "filesystem", "run queue": "runqueue", "run queues": "runqueue", "system call": "syscall",
    "system calls": "syscall", "context switch": "scheduler", "context switches": "scheduler",
    "work queue": "workqueue", "work queues": "workqueue", "page cache": "cache", "out of memory": "oom",
    "flame graph": "profile stack", "flame graphs": "profile stack", "name resolution": "dns",
    "soft interrupt": "softirq", "soft interrupts": "softirq", "hard interrupt": "hardirq",
    "load average": "load", "off cpu": "blocked", "on cpu": "running", "not responding": "hang",
}  # fmt: skip
#: Words of one meaning, as people say them and as tools are described.
ALIKE = (
    "disk storage ssd nvme hdd drive bio io",
    "file filesystem directory folder path",
    "slow latency late long delay lag hang stall sluggish",
    "wait latency blocked sleep stuck hang off",
    "fast latency speed performance",
    "memory ram heap allocation allocate malloc oom swap slab",
    "leak grow outstanding allocation",
    "network tcp udp connection packet socket internet traffic bandwidth",
    "connection connect accept session listen",
    "dns hostname lookup resolve getaddrinfo host",
    "drop lost loss retransmit retransmission",
    "cpu processor core scheduler runqueue",
    "busy cpu load utilization usage hot profile idle samples",
    "run running runqueue turn execute",
    "process program task thread application command",
    "start launch begin execute exec new spawn fork",
    "end exit die died dies dead death crash terminate finish quit vanish",
    "kill signal terminate",
    "lock mutex contention semaphore deadlock futex",
    "interrupt irq softirq hardirq",
    "syscall call",
    "function call probe",
    "open read write access",
    "stack backtrace where caller",
    "count number often frequency rate",
    "error fail failure failed failing wrong",
    "wakeup wake woken",
    "workqueue kworker work",
    "numa node",
    "virtual vm guest hypervisor kvm",
    "frequency mhz ghz clock",
    "query sql database mysql postgresql",
    "security permission capability privilege setuid",
    "mount unmount umount",
    "delete remove unlink gone",
    "cache hit miss",
    "flush sync fsync",
    "histogram distribution",
)
#: Forms of a word that its end does not tell, and the word.
IRREGULAR = {
    "took": "take", "taken": "take", "went": "go", "ran": "run", "woke": "wake", "woken": "wake",
    "written": "write", "wrote": "write", "lost": "lose", "began": "begin", "begun": "begin", "died": "die",
    "dies": "die", "dying": "die", "dead": "die", "death": "die", "stuck": "stick", "memories": "memory",
    "kept": "keep", "sent": "send", "failure": "fail", "failures": "fail", "latencies": "latency",
    "allocation": "allocate", "allocations": "allocate", "utilisation": "utilization", "signalled": "signal",
    "processes": "process", "libraries": "library", "busiest": "busy", "busier": "busy",
}  # fmt: skip
