# SPDX-License-Identifier: Apache-2.0
"""Probes on kernel functions deliver exactly the calls that were made, with their arguments and results.

Each test makes a known number of system calls and counts them in the kernel.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_code import running
from needs import needs, older_than

from osmia.compiler.ktypes import Kernel
from osmia.compiler.signatures import signature
from osmia.errors import CompileError, NotSupported, UserError
from osmia.kernel import bpf, btf_source, features, functions, kallsyms
from osmia.link.kprobe_multi import MultiLink

pytestmark = [pytest.mark.kernel]
Row = Callable[[str, Any], None]

HEAD = """
me = option("-p", type=int)
n = Array[u64](16)
"""


@pytest.fixture
def zeros(tmp_path: Path) -> Iterator[int]:
    """A file of 4 KiB to read from."""
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4096))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def reads(fd: int, times: int = 23) -> int:
    """Read 1, 2, 3 … bytes; how many in all."""
    return sum(len(os.pread(fd, 1 + at, 0)) for at in range(times))


def counted_reads(n: Any, fd: int) -> int:
    """The same, while ``n[15]`` is set: looking for functions reads long lists, which is not to be counted."""
    n[15] = 1
    total = reads(fd)
    n[15] = 0
    return total


def mine() -> dict[str, int]:
    return {"me": os.getpid()}


BODY = """
{hook}
def probe(file, buf, count, pos):
    if current.tgid == me and file.f_inode.i_ino == ino:
        n[0] += 1
        n[1] += count
        n[2] += buf
"""


def by_inode(text: str, fd: int) -> str:
    return HEAD + f"ino = {os.fstat(fd).st_ino}\n" + text


@pytest.mark.feature("A1 kernel functions: kprobe, kretprobe", only="kprobe")
@pytest.mark.feature("A1 kernel functions: fentry, fexit", only="fentry")
@pytest.mark.parametrize("kind", ["kprobe", "fentry"])
def test_arguments_on_entry(zeros: int, record_property: Row, kind: str) -> None:
    """One body for kprobe and fentry: pointers into the kernel are followed, numbers are exact."""
    needs(kind)
    text = by_inode(BODY.replace("{hook}", '@first_of(fentry("vfs_read"), kprobe("vfs_read"))'), zeros)
    with running(text, mine(), only=[f"probe__{kind}"]) as it:
        reads(zeros)
        link = it.attach(f"probe__{kind}")
        reads(zeros)
        link.close()
        reads(zeros)
        n = it.module.n
        assert n[0] == 23
        assert n[1] == sum(range(1, 24))
        assert n[2] > 0
    record_property("row", f"hook:{kind}")
    record_property("how", link.how)


@pytest.mark.feature("A1 kernel functions: kprobe, kretprobe", only="kretprobe")
@pytest.mark.feature("A1 kernel functions: fentry, fexit", only="fexit")
@pytest.mark.parametrize("kind", ["kretprobe", "fexit"])
def test_results(zeros: int, record_property: Row, kind: str) -> None:
    needs("kprobe" if kind == "kretprobe" else "fentry")
    arguments = "file, buf, count, pos, " if kind == "fexit" else ""
    more = "        n[2] += count\n" if kind == "fexit" else ""
    text = by_inode(f"""
@{kind}("vfs_read")
def probe({arguments}ret):
    if current.tgid == me and current.pid == me:
        n[0] += 1
        if ret < 0:
            n[3] += 1
        else:
            n[1] += ret
{more}
""", zeros)
    with running(text, mine()) as it:
        link = it.attach("probe")
        os.lseek(zeros, 4090, os.SEEK_SET)
        assert [len(os.read(zeros, 4)) for _ in range(3)] == [4, 2, 0]
        with pytest.raises(OSError, match="directory"):
            os.read(os.open("/", os.O_RDONLY | os.O_DIRECTORY), 10)
        link.close()
        n = it.module.n
        assert (n[0], n[1], n[3]) == (4, 6, 1)
        assert n[2] == (22 if kind == "fexit" else 0)
    record_property("row", f"hook:{kind}")
    record_property("how", link.how)


@pytest.mark.feature("A1 kernel functions: kprobe, kretprobe")
def test_kprobe_by_ioctl(zeros: int) -> None:
    """The way before 5.15."""
    needs("kprobe")
    features.turn_off("bpf_link")
    try:
        with running(by_inode(BODY.replace("{hook}", '@kprobe("vfs_read")'), zeros), mine()) as it:
            link = it.attach("probe")
            assert link.how == "kprobe ioctl"
            reads(zeros)
            link.close()
            reads(zeros)
            assert it.module.n[0] == 23
    finally:
        features.turn_off()


def test_inside_a_function(zeros: int) -> None:
    """An offset must be where an instruction begins; there the registers can be read."""
    needs("kprobe")
    (start,) = kallsyms.find("vfs_read")[0]
    taken, refused = 0, 0
    for offset in range(1, 40):
        text = HEAD + f"""
@kprobe("vfs_read+{offset}")
def probe(regs):
    if current.pid == me:
        n[0] += 1
        n[1] = {'regs.ip' if os.uname().machine == 'x86_64' else 'regs.pc'}
"""
        with running(text, mine()) as it:
            try:
                link = it.attach("probe")
            except UserError as err:
                assert "not where an instruction begins" in str(err), err
                refused += 1
                continue
            os.read(zeros, 1)
            link.close()
            if it.module.n[0]:
                assert it.module.n[0] == 1
                assert 0 <= it.module.n[1] - start.address - offset <= 1
                taken += 1
        if taken >= 2 and refused:
            break
    assert taken and refused
    with pytest.raises(CompileError, match="not in their registers any more"), running(HEAD + """
@kprobe("vfs_read+8")
def probe(file):
    n[0] += 1
"""):
        pass


@pytest.mark.feature("A1 kernel functions: kprobe_multi, kretprobe_multi")
def test_a_pattern(zeros: int, record_property: Row) -> None:
    """kprobe_multi: one program on many functions, told apart by address and by cookie."""
    needs("kprobe_multi")
    text = HEAD + """
by_ip = Hash[u64, u64]()
by_cookie = Hash[u64, u64]()

@kprobe_multi("vfs_*")
def probe():
    if current.pid == me and n[15]:
        by_ip[func_ip()] += 1
        by_cookie[attach_cookie()] += 1

@kretprobe_multi("vfs_rea*")
def back(ret):
    if current.pid == me and n[15]:
        n[0] += 1
        n[1] += ret
"""
    with running(text, mine()) as it:
        link, back = it.attach("probe", patterns=["vfs_*"]), it.attach("back")
        assert isinstance(link, MultiLink) and len(link.fds) == 1
        total = counted_reads(it.module.n, zeros)
        back.close()
        link.close()
        names = {kallsyms.symbol(ip): count for ip, count in it.module.by_ip.items()}
        assert names["vfs_read"] == 23
        assert set(names) <= set(link.functions)
        cookies = {link.functions[at]: count for at, count in it.module.by_cookie.items()}
        assert cookies == names
        assert (it.module.n[0], it.module.n[1]) == (23, total)
        assert f"{len(link.functions):,} functions with one link" in link.how and len(link.functions) > 40
    record_property("row", "hook:kprobe_multi")
    record_property("how", link.how)


@pytest.mark.feature("P5 no ceiling on the number of probes")
def test_a_pattern_with_single_probes(zeros: int, record_property: Row) -> None:
    """Where the kernel has no multi link: a kprobe each, the number shown, the same counts."""
    needs("kprobe")
    features.turn_off("kprobe_multi")
    text = HEAD + """
by_ip = Hash[u64, u64]()

@kprobe_multi("vfs_re*")
def probe():
    if current.pid == me and n[15]:
        n[0] += 1
        by_ip[func_ip()] += 1

@kretprobe_multi("vfs_read")
def back(ret):
    if current.pid == me and n[15]:
        n[1] += ret
"""
    try:
        with running(text, mine()) as it:
            link, back = it.attach("probe"), it.attach("back")
            total = counted_reads(it.module.n, zeros)
            assert isinstance(link, MultiLink)
            assert link.how.startswith(f"{len(link.functions)} single kprobes") and "vfs_read" in link.functions
            back.close()
            link.close()
            names = {kallsyms.symbol(ip): count for ip, count in it.module.by_ip.items()}
            assert names["vfs_read"] == 23 and set(names) <= set(link.functions)
            assert it.module.n[1] == total
    finally:
        features.turn_off()
    record_property("row", "hook:kprobe_multi one by one")
    record_property("how", link.how)


@pytest.mark.feature("A1 kernel functions: kprobe_multi, kretprobe_multi")
@pytest.mark.feature("P3 1,000 kernel functions in one call")
@pytest.mark.feature("P5 no ceiling on the number of probes")
def test_a_thousand_functions_in_one_call(record_property: Row) -> None:
    needs("kprobe_multi")
    listed = functions.traceable()
    assert listed is not None
    times: dict[str, int] = {}
    for one in listed:
        times[one.name] = times.get(one.name, 0) + 1
    # What is reached rarely: the test is of attaching, and emulated processors are slow.
    rare = [name for name, n in times.items() if n == 1 and name.startswith(("acpi_", "pci_", "nfs", "drm_", "snd_",
            "usb_", "scsi_", "ata_", "tcp_", "xfrm_", "cgroup_", "acpi", "ip6_", "devlink_", "ethtool_"))]  # fmt: skip
    rare = [name for name in rare if "." not in name][:1000]
    assert len(rare) == 1000
    text = HEAD + """
@kprobe_multi("tcp_*")
def probe():
    n[0] += 1
"""
    with running(text) as it:
        calls = []

        def counting(command: int, attr: bytearray) -> int:
            calls.append(command)
            return bpf._kernel(command, attr)

        start = time.monotonic()
        with bpf.override(counting):
            link = it.attach("probe", patterns=rare)
        took = time.monotonic() - start
        assert isinstance(link, MultiLink)
        assert len(link.functions) >= 990 and len(link.fds) == 1
        assert calls.count(28) == 1  # BPF_LINK_CREATE
        start = time.monotonic()
        link.close()
        print(f"{len(link.functions)} functions: attached in {took:.3f} s, closed in {time.monotonic() - start:.3f} s")
    record_property("how", f"{link.how}, {took * 1000:.0f} ms emulated")


def test_structures_passed_by_value(record_property: Row) -> None:
    """kuid_t is a structure in a register."""
    needs("kprobe")
    kinds = ["kprobe"] + (["fentry"] if features.has("fentry") and not older_than("6.0") else [])
    code = "import os, sys; os.setuid(1234); sys.stdin.read(1); [os.getuid() for _ in range(17)]"
    for kind in kinds:
        text = HEAD + f"""
@{kind}("from_kuid_munged")
def probe(namespace, kuid):
    if current.tgid == me:
        n[0] += 1
        n[1] += kuid.val
"""
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        with running(text, {"me": child.pid}) as it:
            it.attach("probe")
            child.communicate(b"x")
            users, rest = divmod(it.module.n[1], 1234)  # others are of user 0: the owners of files that it opens
            assert rest == 0 and 17 <= users <= 20 and it.module.n[0] >= users


def test_arguments_on_the_stack(zeros: int) -> None:
    """do_mmap() has more arguments than registers (its order changed in 5.9, 6.5 and 6.6)."""
    needs("kprobe")
    known = signature(Kernel(btf_source.kernel_btf()), "do_mmap")
    assert known is not None and len(known.params) >= 8
    names = [name for name, _ in known.params]
    last = names.index("populate")  # the argument after pgoff: on the stack everywhere
    text = HEAD + f"""
@kprobe("do_mmap")
def probe({', '.join(names[: last + 1])}):
    if current.pid == me and len == {5 << 12}:
        n[0] += 1
        n[1] = pgoff
        n[2] = populate
        n[3] = file.f_inode.i_ino
""".replace("len ==", "length ==").replace(" len,", " length,")
    with running(text, mine()) as it:
        it.attach("probe")
        path = f"/proc/self/fd/{zeros}"
        with open(path, "rb") as stream:
            os.ftruncate(os.open(path, os.O_RDWR), 64 << 12)
            mapped = mmap.mmap(stream.fileno(), 5 << 12, prot=mmap.PROT_READ, offset=7 << 12)
        n = it.module.n
        assert (n[0], n[1], n[3]) == (1, 7, os.fstat(zeros).st_ino)
        assert n[2] > 1 << 63  # the address of a variable on the kernel's stack
        mapped.close()


def test_annotations(zeros: int) -> None:
    """An annotation says what BTF cannot: that an address is the user's, or that a number is narrow."""
    needs("kprobe")
    text = by_inode("""
@kprobe("vfs_write")
def probe(file, buf: User["char"], count: u8):
    if current.pid == me:
        if user_str(buf, 16).startswith("hello"):
            n[0] += 1
        n[1] += count
""", zeros)
    with running(text, mine()) as it:
        it.attach("probe")
        fd = os.open("/dev/null", os.O_WRONLY)
        os.write(fd, b"hello, world\0")
        os.write(fd, b"x" * 259)
        os.close(fd)
        assert (it.module.n[0], it.module.n[1]) == (1, 13 + 3)


@pytest.mark.feature("A1 kernel functions: fmod_ret")
def test_modify_return(tmp_path: Path, record_property: Row) -> None:
    """A security function that is made to say no: 3 opens of a file are refused, another file's are not."""
    needs("fentry")
    forbidden, allowed = tmp_path / "forbidden", tmp_path / "allowed"
    forbidden.write_text("x")
    allowed.write_text("x")
    text = HEAD + f"""
@fmod_ret("security_file_open")
def probe(file, ret):
    if ret == 0 and current.tgid == me and file.f_inode.i_ino == {forbidden.stat().st_ino}:
        n[0] += 1
        return -{errno.EPERM}
    return ret
"""
    with running(text, mine()) as it:
        link = it.attach("probe")
        allowed.read_text()
        for _ in range(3):
            with pytest.raises(PermissionError):
                forbidden.read_text()
        link.close()
        forbidden.read_text()
        assert it.module.n[0] == 3
    record_property("row", "hook:fmod_ret")
    record_property("how", link.how)


@pytest.mark.feature("A1 kernel functions: fmod_ret")
def test_modified_functions_do_not_run() -> None:
    """bpf_modify_return_test(1, &b) increments b and returns 4; a program can prevent both."""
    needs("fentry")
    if older_than("6.3"):
        pytest.skip("needs CONFIG_FUNCTION_ERROR_INJECTION before 6.3")
    text = """
answer = option("-a", type=s64)

@fmod_ret("bpf_modify_return_test")
def probe(a: u32, b, ret):
    return answer
"""
    for answer in (0, -22):
        with running(text, {"answer": answer}) as it:
            plain = it.live.progs["probe"].test_run()[0]
            it.attach("probe")
            changed = it.live.progs["probe"].test_run()[0]
            if answer:  # one side effect less, and the error instead of 4 (the sum of two functions since 6.9)
                assert changed == ((plain >> 16) - 1 << 16 | (plain - 4 - 22) & 0xFFFF)
            else:
                assert changed == plain and plain >> 16


@pytest.mark.feature("A20 LSM probes")
def test_security_hook(tmp_path: Path, record_property: Row) -> None:
    """A file that a program forbids to open cannot be opened by this process, and another one can."""
    needs("fentry")
    from osmia.link import lsm

    forbidden, allowed = tmp_path / "forbidden", tmp_path / "allowed"
    forbidden.write_text("x")
    allowed.write_text("x")
    text = HEAD + f"""
@lsm("file_open")
def probe(file, ret):
    if ret == 0 and current.tgid == me and file.f_inode.i_ino == {forbidden.stat().st_ino}:
        n[0] += 1
        return -{errno.EPERM}
    return 0
"""
    with running(text, mine()) as it:
        modules = lsm.active()
        if modules is not None and "bpf" not in modules:
            with pytest.raises(NotSupported, match=r"boot with lsm=.*,bpf"):
                it.attach("probe")
            pytest.skip(f"this kernel's security modules are {','.join(modules)}: the refusal was tested")
        link = it.attach("probe")
        allowed.read_text()
        for _ in range(3):
            with pytest.raises(PermissionError):
                forbidden.read_text()
        link.close()
        forbidden.read_text()
        assert it.module.n[0] == 3
    record_property("row", "hook:lsm")
    record_property("how", link.how)
