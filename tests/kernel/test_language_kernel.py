# SPDX-License-Identifier: Apache-2.0
"""What kernel code sees of the kernel: the current task, structures, tracepoints, user memory, iterators, samples."""

from __future__ import annotations

import ctypes
import os
import pathlib
import subprocess
import threading
import time

import pytest
from kernel_code import Running, running, signed, wait_for
from needs import needs

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]


def comm() -> str:
    with open("/proc/thread-self/comm", encoding="utf-8") as stream:
        return stream.read().rstrip("\n")


def prog(*lines: str, before: str = "") -> str:
    """A module with a ``@syscall_prog`` p of these lines."""
    return before + "\n@syscall_prog\ndef p(ctx):\n" + "".join(f"    {line}\n" for line in lines)


# --------------------------------------------------------------------------
# Built-ins


def test_the_current_task() -> None:
    text = prog(
        "ctx[20], ctx[21], ctx[22], ctx[23] = current.tgid, current.pid, current.uid, current.gid",
        "ctx[24] = current.cgroup_id",
        "with rows.reserve() as e:", "    e.name = current.comm",
        "ctx[25] = current.comm == NAME",
        before=f"NAME = {comm()!r}\nclass Row(Event):\n    name: Comm\nrows = Ring(Row, 4096)\n",
    )
    with running(text) as live:
        words = live.words("p")
        assert words[20:24] == [os.getpid(), threading.get_native_id(), os.getuid(), os.getgid()]
        assert words[25] == 1
        assert [e.name for e in live.events("rows")] == [comm()]
        seen: list[list[int]] = []
        other = threading.Thread(target=lambda: seen.append([*live.words("p")[20:22], threading.get_native_id()]))
        other.start()
        other.join()
        assert seen[0][0] == os.getpid() and seen[0][1] == seen[0][2] != os.getpid()


def test_members_of_structures_without_a_name() -> None:
    """``kuid_t`` and ``kgid_t`` are two of them, with one member each."""
    text = prog(
        "cred = current.task.cred", "ctx[29], ctx[30] = cred.uid.val, cred.egid.val", "ctx[31] = cred.fsgid.val",
    )
    with running(text) as live:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setresgid(4321, 1234, 4321)
                os.write(writer, repr(live.words("p")[29:]).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            assert stream.read() == repr([0, 1234, 1234])
        os.waitpid(pid, 0)


def test_another_group() -> None:
    text = prog("ctx[30] = current.uid", "ctx[31] = current.gid")
    with running(text) as live:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setresgid(1234, 1234, 1234)
                os.write(writer, repr(live.words("p")[30:]).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            assert stream.read() == repr([0, 1234])
        os.waitpid(pid, 0)


def test_the_cgroup() -> None:
    text = prog("ctx[29] = current.cgroup_id", "ctx[30] = cgroup_under(ctx[0])", "ctx[31] = cgroup_under(ctx[29])")
    with running(text) as live:
        own = live.words("p")[29]
        for wanted, is_under in ((own, 1), (1, 1), (own + 12345, 0)):  # 1: the root of cgroup v2
            assert live.words("p", wanted)[29:] == [own, is_under, 1]


def test_clocks_cpu_and_random() -> None:
    text = prog(
        "ctx[20], ctx[21], ctx[22] = ktime(), boot_ktime(), cpu()", "ctx[23], ctx[24] = random(), random()",
    )
    with running(text) as live:
        before, boot = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        allowed = os.sched_getaffinity(0)
        try:
            for one in sorted(allowed)[:2]:
                os.sched_setaffinity(0, {one})
                assert live.words("p")[22] == one
        finally:
            os.sched_setaffinity(0, allowed)
        words = live.words("p")
        assert before <= words[20] <= time.monotonic_ns()
        assert boot <= words[21] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        values = [word for _ in range(50) for word in live.words("p")[23:25]]
        assert len(set(values)) > 90 and max(values) < 1 << 32 and max(values) > 1 << 30


# --------------------------------------------------------------------------
# Structures


WALK = prog(
    "task = current.task",
    "ctx[10] = task.tgid",
    "ctx[11] = task.real_parent.tgid",
    "ctx[12] = task.real_parent.real_parent.tgid",
    "ctx[13] = task.comm == current.comm",
    "ctx[14] = task.mm.owner.tgid",
    "ctx[15] = task.sched_reset_on_fork",
    "ctx[16] = task.signal.rlim[7].rlim_cur",
    "ctx[17] = container_of(task.tasks, 'struct task_struct', 'tasks').tgid",
    "ctx[18] = cast(u64(task), 'struct task_struct').pid",
    "ctx[19] = task.mm is None",
    "parent = task.real_parent",
    "while_up = 0",
    "for i in range(40):",
    "    if parent.tgid <= 1:", "        break",
    "    parent = parent.real_parent",
    "    while_up += 1",
    "ctx[20] = while_up",
    "ctx[21] = task.nsproxy.uts_ns.name.nodename.startswith(NODE)",
    "ctx[22] = task.static_prio",
    "ctx[23] = task.real_parent.comm == NAME",
    before="""
import os
NODE = os.uname().nodename[:20]
with open(f"/proc/{os.getppid()}/comm") as stream:
    NAME = stream.read().strip()
""",
)


def _parents(pid: int) -> list[int]:
    """The process ids above ``pid``, up to 1 or 0."""
    out = []
    while pid > 1:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            pid = int(stream.read().rpartition(")")[2].split()[1])
        out.append(pid)
    return out


@pytest.mark.feature("B7 kernel structures: attributes, relocated")
def test_walks_through_kernel_structures() -> None:
    import resource

    parents = _parents(os.getpid())
    with running(WALK) as live:
        words = live.words("p")
    assert words[10] == os.getpid()
    assert words[11] == os.getppid() == parents[0]
    assert words[12] == (parents[1] if len(parents) > 1 else words[12])
    assert words[13:15] == [1, os.getpid()]
    assert words[16] == resource.getrlimit(resource.RLIMIT_NOFILE)[0] % (1 << 64)
    assert words[17] == os.getpid()
    assert words[18] == threading.get_native_id()
    assert words[19] == 0
    assert words[20] == len([pid for pid in parents if pid > 1])
    assert words[21:24] == [1, 120 + os.getpriority(os.PRIO_PROCESS, 0), 1]


def test_a_bit_field_follows_the_bit() -> None:
    with running(WALK) as live:
        assert live.words("p")[15] == 0
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
                status = 0 if live.words("p")[15] == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.feature("B7 kernel structures: tests of existence")
def test_facts_of_this_kernels_types() -> None:
    needs("bpf_loop")  # one of the facts
    text = prog(
        "task = current.task",
        "ctx[10] = exists('struct task_struct')",
        "ctx[11] = exists('struct no_such_thing')",
        "ctx[12] = exists(task.pid)",
        "ctx[13] = exists(task.no_such_field)",
        "ctx[14] = sizeof('struct list_head')",
        "ctx[15] = sizeof(task.comm)",
        "ctx[16] = enum_value('bpf_func_id', 'BPF_FUNC_loop')",
        "ctx[17] = enum_exists('bpf_func_id', 'BPF_FUNC_no_such')",
        "ctx[18] = enum_exists('bpf_func_id', 'BPF_FUNC_loop')",
        "old = cast(task, task_struct___before_5_14)",
        "new = cast(task, task_struct___now)",
        "ctx[19] = 1 if exists(old.state) else 2",
        "ctx[20] = exists(new.__state)",
        "ctx[21] = new.__state if exists(new.__state) else old.state",
        "ctx[22] = new.tgid",
        "ctx[23] = sizeof(Pair)",
        before="""
class task_struct___before_5_14(KStruct):
    state: s64

class task_struct___now(KStruct):
    tgid: s32
    __state: u32

class Pair(Event):
    a: u8
    b: u64
""",
    )
    with running(text) as live:
        words = live.words("p")
    assert words[10:16] == [1, 0, 1, 0, 16, 16]
    assert words[16:19] == [181, 0, 1]
    # task_struct.state became __state in 5.14 (commit 2f064a59a11f)
    assert words[19:22] == [2, 1, 0]  # running
    assert words[22:24] == [os.getpid(), 16]


def test_null_pointers_read_as_zero() -> None:
    text = prog(
        "nothing = cast(ctx[0], 'struct task_struct')", "ctx[30] = nothing.real_parent.tgid",
        "ctx[31] = 1 if nothing else 2",
    )
    with running(text) as live:
        assert live.words("p", 0)[30:] == [0, 2]
        assert live.words("p", 8)[30:] == [0, 1]


def test_memory_of_the_own_process() -> None:
    text = prog(
        "for i in range(4):",
        "    ctx[8 + 0] = ctx[8] + read_user(ctx[0], u32, i)",
        "ctx[9] = read_user(ctx[0] + 16, s64)",
        "ctx[10] = read_user(8, u64)",
        "ctx[11] = user_str(ctx[1]) == 'text of mine'",
        "ctx[12] = user_str(ctx[1], 5) == 'text'",
        "how = cast(ctx[2], 'struct open_how', user=True)",
        "ctx[13] = how.mode",
    )
    data = (ctypes.c_uint32 * 8)(1, 20, 300, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
    word = ctypes.create_string_buffer(b"text of mine")
    how = (ctypes.c_uint64 * 3)(1, 0o644, 3)
    with running(text) as live:
        words = live.words("p", ctypes.addressof(data), ctypes.addressof(word), ctypes.addressof(how))
    assert words[8] == 321 + 0xFFFFFFFF
    assert signed(words[9]) == -2
    assert words[10:14] == [0, 1, 1, 0o644]


# --------------------------------------------------------------------------
# Probes


EXEC = """
class Row(Event):
    how: u8
    pid: u32
    parent: u32
    comm: Comm
    file: Str[64]

rows = Ring(Row, 65536)
want = option("-p", type=int)

@tracepoint("sched:sched_process_exec")
def record(rec):
    if current.task.real_parent.tgid == want:
        with rows.reserve() as e:
            e.how, e.pid, e.parent = 1, rec.pid, current.task.real_parent.tgid
            e.comm = current.comm
            e.file = rec.filename

@raw_tracepoint("sched_process_exec")
def raw(task, old, bprm):
    if task.real_parent.tgid == want:
        with rows.reserve() as e:
            e.how, e.pid, e.parent = 2, task.tgid, task.real_parent.tgid
            e.comm = task.comm
            e.file = bprm.filename

@tp_btf("sched_process_exec")
def direct(task, old, bprm):
    if task.real_parent.tgid == want:
        with rows.reserve() as e:
            e.how, e.pid, e.parent = 3, old, task.real_parent.tgid
            e.comm = task.comm
            e.file = bprm.filename
"""


def test_one_exec_through_three_hooks() -> None:
    with running(EXEC, {"want": os.getpid()}) as live:
        for name in ("record", "raw", "direct"):
            live.attach(name)
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        rows = wait_for(lambda: live.events("rows"))
        assert sorted(row.how for row in rows) == [1, 2, 3]
        for row in rows:
            assert (row.pid, row.parent, row.comm) == (child.pid, os.getpid(), "true")
            assert row.file == "/bin/true"
        # The verifier tracks the pointers of tp_btf, so that one program reads without a helper.
        assert _helper_calls(live, "direct") < _helper_calls(live, "raw")


def _helper_calls(live: Running, name: str) -> int:
    insns = live.live.progs[name].spec.insns
    return sum(insns[at] == 0x85 and insns[at + 1] >> 4 == 0 for at in range(0, len(insns), 8))


OPENS = """
class Row(Event):
    nr: s32
    dfd: s32
    flags: u64
    mode: u64
    resolve: u64
    path: Str[256]

rows = Ring(Row, 65536)
want = option("-p", type=int)
results = Hash[u32, s64](64)

@tracepoint("syscalls:sys_enter_openat")
def openat(call):
    if current.tgid == want:
        with rows.reserve() as e:
            e.nr, e.dfd, e.flags, e.mode = call.nr, call.dfd, call.flags, call.mode
            e.path = call.filename

@tracepoint("syscalls:sys_enter_openat2")
def openat2(call):
    if current.tgid == want:
        with rows.reserve() as e:
            e.nr, e.dfd = call.nr, call.dfd
            e.flags, e.mode, e.resolve = call.how.flags, call.how.mode, call.how.resolve
            e.path = user_str(call.filename, 20)

@tracepoint("syscalls:sys_exit_openat")
def done(call):
    if current.tgid == want:
        results[0] = call.ret
"""


@pytest.mark.feature("B10 arguments of tracepoints by name")
def test_arguments_of_system_calls(tmp_path: pathlib.Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    path = bytes(tmp_path / "größe")
    with running(OPENS, {"want": os.getpid()}) as live:
        for name in ("openat", "openat2", "done"):
            live.attach(name)
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o640)
        os.close(fd)
        opened = live.module.results[0]
        assert opened == fd
        with pytest.raises(FileNotFoundError):
            os.open("/nonexistent/file", os.O_RDONLY)
        assert live.module.results[0] == -2
        how = (ctypes.c_uint64 * 3)(os.O_RDONLY | os.O_DIRECTORY, 0, 0x04)  # RESOLVE_NO_SYMLINKS
        got = libc.syscall(437, -100, b"/usr/share/a-long-name-that-is-cut", how, 24)
        assert got == -1
        rows = [row for row in live.events("rows") if row.path.startswith((str(tmp_path), "/nonexistent", "/usr/sh"))]
        assert [row.path for row in rows] == [path.decode(), "/nonexistent/file", "/usr/share/a-long-n"]
        assert [row.nr for row in rows] == [257, 257, 437] or os.uname().machine != "x86_64"
        assert rows[0].flags == os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        assert (rows[0].mode, rows[0].dfd) == (0o640, -100)
        assert (rows[2].flags, rows[2].mode, rows[2].resolve, rows[2].dfd) == (os.O_DIRECTORY, 0, 4, -100)


def test_arguments_of_exec() -> None:
    text = """
class Row(Event):
    count: u32
    args: Strs[256, 32]

rows = Ring(Row, 65536)
want = option("-p", type=int)

@tracepoint("syscalls:sys_enter_execve")
def enter(call):
    if current.task.real_parent.tgid == want:
        with rows.reserve() as e:
            for i in range(20):
                word = call.argv[i]
                if not word:
                    break
                e.args.add(word)
                e.count += 1
"""
    with running(text, {"want": os.getpid()}) as live:
        live.attach("enter")
        words = ["/bin/true", "one", "", "two words", "x" * 40]
        subprocess.run(words, check=True)
        # A vfork'ed child that looks for the program along PATH may call execve more than once.
        row = wait_for(lambda: live.events("rows"))[-1]
        assert list(row.args) == [*words[:4], "x" * 31]
        assert (row.count, row.args.truncated) == (5, True)


def test_print_from_a_tracepoint() -> None:
    text = """
want = option("-p", type=int)

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == want:
        print(f"{current.comm} asks {call.which}/{call.who:#x}")
"""
    with running(text, {"want": os.getpid()}) as live:
        live.attach("enter")
        os.getpriority(os.PRIO_PROCESS, 0)
        os.getpriority(os.PRIO_PGRP, 0)
        assert live.printed() == [f"{comm()} asks 0/0x0", f"{comm()} asks 1/0x0"]


def test_an_iterator_over_tasks() -> None:
    text = """
class Row(Event):
    tgid: u32
    pid: u32
    parent: u32
    comm: Comm

rows = Ring(Row, 1 << 20)
ended = Array[u64](1)

@iterator("task")
def each(record):
    task = record.task
    if not task:
        ended[0] += 1
        return
    with rows.reserve() as e:
        e.tgid, e.pid, e.parent = task.tgid, task.pid, task.real_parent.tgid
        e.comm = task.comm
"""
    with running(text) as live:
        link = live.attach("each")
        assert link.read() == b""
        rows = {row.pid: row for row in live.events("rows")}
        own = rows[os.getpid()]
        assert (own.tgid, own.parent) == (os.getpid(), os.getppid())
        with open("/proc/self/comm", encoding="utf-8") as stream:
            assert own.comm == stream.read().rstrip("\n")
        running_now = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        assert len(running_now & set(rows)) >= 0.9 * len(running_now)
        assert live.module.ended[0] == 1
        assert live.lost() == {}


def test_samples_of_the_clock() -> None:
    text = """
samples = Hash[u32, u64](1024)
periods = Array[u64](2)

@perf_event("cpu-clock", frequency=99)
def sample(context):
    samples[current.tgid] += 1
    periods[0] = context.sample_period
    periods[1] += 1
"""
    with running(text) as live:
        link = live.attach("sample", frequency=199)
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
        link.close()
        got = live.module.samples[os.getpid()]
        assert 0.5 * 0.6 * 199 < got < 1.5 * 0.6 * 199
        assert live.module.periods[0] > 0 and live.module.periods[1] >= got


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_alternatives_share_one_body() -> None:
    text = """
hits = Hash[u32, u64](16)

@first_of(tp_btf("sched_process_fork"), raw_tracepoint("sched_process_fork"))
def fork(parent, child):
    hits[parent.tgid] += 1
"""
    with running(text) as live:
        assert set(live.live.progs) == {"fork__tp_btf", "fork__raw_tracepoint"}
        for name in live.live.progs:
            live.attach(name)
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        assert live.module.hits[os.getpid()] == 6


@pytest.mark.parametrize("hook", ["tp_btf", "raw_tracepoint"])
def test_arguments_of_later_kernels(hook: str) -> None:
    """What a tracepoint does not have is what the default says, and what it has is not."""
    text = (
        f'n = Array[u64](4)\n@{hook}("sched_process_exec")\n'
        "def executed(task, old_pid=77, program=5, later=7, last=-9):\n"
        f"    if current.task.real_parent.tgid == {os.getpid()}:\n"
        "        n[0] += 1\n        n[1] = later\n        n[2] = last\n        n[3] = old_pid\n"
    )
    with running(text) as live:
        live.attach("executed")
        child = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
        assert wait_for(lambda: live.module.n[0]) == 1
        assert (live.module.n[1], signed(live.module.n[2]), live.module.n[3]) == (7, -9, int(child.stdout))
