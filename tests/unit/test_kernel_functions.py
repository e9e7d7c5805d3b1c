# SPDX-License-Identifier: Apache-2.0
"""Which kernel functions there are, which can be probed, and what is said of the others: on made-up lists."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from osmia.errors import NotFound, NotPermitted, NotSupported, UserError
from osmia.events import missed
from osmia.events.loss import sentence
from osmia.kernel import bpf, btf_source, features, functions, kallsyms, perf, tracefs
from osmia.link import kprobe, kprobe_multi
from osmia.link.fentry import explained
from osmia.load.program import LiveProg
from osmia.obj.spec import ProgSpec

SYMBOLS = b"""\
ffffffff81000000 T vfs_read
ffffffff81000100 T vfs_write
ffffffff81000200 t twin
ffffffff81000300 t twin
ffffffff81000400 t half.part.0
ffffffff81000500 t shrunk.isra.0
ffffffff81000600 t unproven.constprop.0
ffffffff81000700 T get_kprobe
ffffffff81000800 T silent
ffffffff81000900 t __pfx_vfs_read
ffffffff81000a00 t mixed
ffffffff81000b00 t mixed
ffffffff81ff0000 T _etext
ffffffff82000000 D jiffies
ffffffff82000100 T init_task
ffffffff83000000 T _sinittext
ffffffff83000100 T start_kernel
ffffffff83000200 T _einittext
ffffffffc0000000 t dummy_xmit\t[dummy]
ffffffffc0000100 t twin\t[dummy]
"""
NAMES = [b"vfs_read", b"vfs_write", b"twin", b"twin", b"shrunk.isra.0", b"mixed", b"dummy_xmit [dummy]",
         b"twin [dummy]", b"__ftrace_invalid_address___12"]  # fmt: skip
# The addresses are those of calls into ftrace, not of the functions.
ADDRESSED = [b"ffffffff81000004 vfs_read", b"ffffffff81000104 vfs_write", b"ffffffff81000b04 mixed",
             b"ffffffffc0000004 dummy_xmit [dummy]"]  # fmt: skip


@pytest.fixture(autouse=True)
def lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[bytes]]]:
    """A kernel with these symbols; ``available_filter_functions`` has no addresses (before 6.5)."""
    have = {"available_filter_functions": NAMES}
    monkeypatch.setattr(kallsyms, "_text", SYMBOLS)
    monkeypatch.setattr(kallsyms, "_sorted", None)
    monkeypatch.setattr(kallsyms, "_ends", None)
    monkeypatch.setattr(functions, "_list", have.get)
    monkeypatch.setattr(functions, "_repeated", frozenset({"twin", "mixed"}))
    monkeypatch.setattr(functions, "forbidden", lambda: frozenset({"get_kprobe"}))
    monkeypatch.setattr(functions, "module_of", lambda name: "")
    monkeypatch.setattr(btf_source, "type_id", lambda name, kind: int(name in ("vfs_read", "shrunk", "inlined")))
    monkeypatch.setattr(tracefs, "exists", lambda category, name: name == "sys_enter_openat")
    monkeypatch.setattr(tracefs, "categories", lambda: ["vfs"])
    monkeypatch.setattr(tracefs, "tracepoints", lambda category: ["silent"])
    monkeypatch.setitem(features._answers, "kprobe", True)
    yield have


def names(*patterns: str) -> list[str]:
    return [one.name for one in functions.matching(patterns).functions]


def test_symbols_by_name_and_address() -> None:
    assert [one.address for one in kallsyms.find("twin")[0]] == [
        0xFFFFFFFF81000200, 0xFFFFFFFF81000300, 0xFFFFFFFFC0000100,
    ]  # fmt: skip
    assert [one.module for one in kallsyms.find("dummy:twin")[0]] == ["dummy"]
    assert kallsyms.find("vfs_rea") == ([], [])
    assert kallsyms.find("jiffies")[1][0].name == "jiffies"
    assert [one.name for one in kallsyms.find("init_task")[1]] == ["init_task"], "a variable, whatever its letter"
    assert [one.name for one in kallsyms.find("start_kernel")[0]] == ["start_kernel"], "code that is gone after boot"
    assert "init_task" not in {one.name for one in kallsyms.code()}
    assert kallsyms.symbol(0xFFFFFFFF81000000) == "vfs_read"
    assert kallsyms.symbol(0xFFFFFFFF81000104) == "vfs_write+0x4"
    assert kallsyms.symbol(0xFFFFFFFFC0000000) == "dummy_xmit [dummy]"
    assert kallsyms.symbol(0xFFFFFFFF82000004) == "0xffffffff82000004"  # data
    assert kallsyms.symbol(5) == "0x5" and kallsyms.symbol(0) == "0x0"
    assert kallsyms.repeated() == {"twin", "mixed"}
    assert not kallsyms.hidden()
    assert [one.name for one in kallsyms.variants("shrunk")] == ["shrunk.isra.0"]
    assert "__pfx_vfs_read" not in {one.name for one in kallsyms.code()}


def test_hidden_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kallsyms, "_text", b"0000000000000000 A fixed\n0000000000000000 T vfs_read\n")
    assert kallsyms.hidden()
    assert [one.address for one in functions.matching(["vfs_*"]).functions] == [0, 0]


def test_patterns() -> None:
    assert names("vfs_*") == ["vfs_read", "vfs_write"]
    assert names("vfs_rea?", "vfs_read") == ["vfs_read"]
    assert names("dummy:*") == ["dummy_xmit", "twin"]
    assert names("shrunk.*") == ["shrunk.isra.0"]
    choice = functions.matching(["*"])
    assert choice.left["made by the compiler out of another"] == 1
    assert choice.left["of the same name as another that cannot be traced"] == 1  # mixed: two symbols, one traceable
    assert sorted(one.address for one in choice.functions if one.name == "twin") == [
        0xFFFFFFFF81000200, 0xFFFFFFFF81000300, 0xFFFFFFFFC0000100,
    ]  # fmt: skip


def test_a_list_with_addresses_needs_no_guess(lists: dict[str, list[bytes]]) -> None:
    lists["available_filter_functions_addrs"] = ADDRESSED
    choice = functions.matching(["*"])
    assert {one.name: one.address & 0xFFFF for one in choice.functions} == {
        "vfs_read": 0, "vfs_write": 0x100, "mixed": 0xB00, "dummy_xmit": 0,
    }  # fmt: skip
    assert not choice.left


def test_without_any_list_there_are_the_symbols(lists: dict[str, list[bytes]]) -> None:
    lists.clear()
    found = names("*")
    assert "get_kprobe" not in found and "vfs_read" in found and "shrunk.isra.0" not in found


def test_places() -> None:
    assert functions.place("vfs_read+0x10").offset == 16
    assert functions.place("vfs_read").addresses == []
    twins = functions.place("twin")
    assert len(twins.addresses) == 3 and "3 functions are called twin" in twins.note
    with pytest.raises(UserError, match="is not an offset"):
        functions.place("vfs_read+x")
    assert functions.stand_in("shrunk") == "shrunk.isra.0"
    assert functions.stand_in("unproven") == functions.stand_in("half") == functions.stand_in("vfs_read") == ""
    with pytest.raises(NotSupported, match="3 functions are called twin, and fentry cannot tell them apart"):
        functions.check_unique("twin", "fentry", "p", True)
    functions.check_unique("vfs_read", "fentry", "p", True)


@pytest.mark.parametrize(("name", "kind", "cls", "what", "fix"), [
    ("vfs_raed", "kprobe", NotFound, "this kernel has no function vfs_raed", "did you mean vfs_read"),
    ("sys_openat", "kprobe", NotFound, "no function sys_openat", "use the tracepoint syscalls:sys_enter_openat"),
    ("jiffies", "kprobe", NotFound, "a variable of the kernel, not a function", ""),
    ("half", "kprobe", NotFound, "the compiler made half.part.0 of it, and the rest of it is inlined", "half.part.0"),
    ("unproven", "kprobe", NotFound, "BTF does not say that its arguments stayed", "unproven.constprop.0"),
    ("inlined", "kprobe", NotFound, "it is inlined into its callers", ""),
    ("get_kprobe", "kprobe", NotSupported, "the kernel forbids probes in get_kprobe", "a function that calls it"),
    ("silent", "kprobe_multi", NotSupported, "silent cannot be traced on entry", "use the tracepoint vfs:silent"),
    ("silent", "fentry", NotSupported, "BTF does not have silent", 'kprobe("silent") may still work'),
    ("vfs_read", "kprobe", NotSupported, "vfs_read exists, but the kernel refuses a kprobe on it", ""),
])  # fmt: skip
def test_reasons(name: str, kind: str, cls: type[UserError], what: str, fix: str) -> None:
    err = functions.why_not(name, kind, "here")
    assert isinstance(err, cls) and what in err.what and fix in err.fix and err.where == "here"


# --- attaching, with a kernel that only answers --------------------------------------------------------------------


@pytest.fixture
def prog() -> LiveProg:
    spec = ProgSpec("probe", b"", "kprobe/vfs_read")
    spec.hook, spec.target = "kprobe", "vfs_read"
    return LiveProg(99, spec)


@pytest.fixture
def pmu(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "format").mkdir()
    (tmp_path / "type").write_text("8\n")
    (tmp_path / "format" / "retprobe").write_text("config:3\n")
    monkeypatch.setattr(kprobe, "_PMU", str(tmp_path))


def answering(*answers: int) -> tuple[Any, list[tuple[int, int, int, int]]]:
    """A perf_event_open that gives these results (0: a real fd); and what it was asked: type, config, config1, 2."""
    seen: list[tuple[int, int, int, int]] = []
    rest = list(answers)

    def fake(attr: bytearray, pid: int, cpu: int, group: int, flags: int) -> int:
        seen.append((*struct.unpack_from("<I4xQ", attr), *struct.unpack_from("<QQ", attr, 56)))
        result = rest.pop(0) if rest else 0
        return os.open("/dev/null", os.O_RDONLY) if result == 0 else -result

    return perf.override(fake), seen


def link_created(command: int, attr: bytearray) -> int:
    return os.open("/dev/null", os.O_RDONLY)


def test_what_the_kernel_is_asked(prog: LiveProg, pmu: None) -> None:
    door, seen = answering()
    with door, bpf.override(link_created):
        kprobe.attach(prog, "vfs_read+16").close()
        kprobe.probe(prog, "vfs_read", "kretprobe").close()
        link = kprobe.attach(prog, "twin")
        assert "3 functions are called twin: all of them are probed" in link.how and len(link.fds) == 6
        link.close()
    assert seen[0][:2] == (8, 0) and seen[0][2] and seen[0][3] == 16
    assert seen[1][:2] == (8, 1 << 3) and seen[1][3] == 0
    assert seen[2][2:] == (0, 0xFFFFFFFF81000200) and seen[4][2:] == (0, 0xFFFFFFFFC0000100)


@pytest.mark.parametrize(("number", "target", "cls", "text"), [
    (errno.ENOENT, "vfs_raed", NotFound, "did you mean vfs_read"),
    (errno.EINVAL, "get_kprobe", NotSupported, "kprobe blacklist"),
    (errno.EILSEQ, "vfs_read+3", UserError, "not where an instruction begins"),
    (errno.EINVAL, "vfs_read+3", UserError, "not where an instruction begins"),
    (errno.EPERM, "vfs_read", NotPermitted, "not permitted to use a kprobe"),
    (errno.EMFILE, "vfs_read", UserError, "too many open files"),
    (errno.EINVAL, "vfs_read", NotSupported, 'fentry("vfs_read") may work'),
])  # fmt: skip
def test_refusals(prog: LiveProg, pmu: None, number: int, target: str, cls: type[UserError], text: str) -> None:
    door, _ = answering(number)
    with door, pytest.raises(cls, match=r"probe \(") as caught:
        kprobe.attach(prog, target)
    assert text in str(caught.value)


def test_a_variant_stands_in(prog: LiveProg, pmu: None) -> None:
    door, seen = answering(errno.ENOENT, 0)
    with door, bpf.override(link_created):
        link = kprobe.attach(prog, "shrunk")
    assert "as shrunk.isra.0: BTF shows" in link.how and len(seen) == 2
    link.close()


def test_no_kprobes_at_all(prog: LiveProg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kprobe, "_PMU", "/nowhere")
    with pytest.raises(NotSupported, match="no kprobes"):
        kprobe.attach(prog, "vfs_read")


def test_one_link_for_many(prog: LiveProg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features._answers, "kprobe_multi", True)
    asked: list[bytes] = []

    def kernel(command: int, attr: bytearray) -> int:
        asked.append(bytes(attr))
        return os.open("/dev/null", os.O_RDONLY)

    with bpf.override(kernel):
        link = kprobe_multi.attach(prog, "vfs_*")
        back = kprobe_multi.attach_many(prog, ["vfs_read", "vfs_write"], "kretprobe_multi")
    assert isinstance(link, kprobe_multi.MultiLink)
    assert link.functions == ["vfs_read", "vfs_write"] and link.how == "2 functions with one link"
    assert struct.unpack_from("<IIII", asked[0]) == (99, 0, 42, 0)
    assert struct.unpack_from("<II", asked[0], 16) == (0, 2) and struct.unpack_from("<II", asked[1], 16) == (1, 2)
    link.close()
    back.close()


def test_one_link_by_names(prog: LiveProg, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel hides addresses it is given names."""
    import ctypes

    monkeypatch.setattr(kallsyms, "_text", b"0000000000000000 A fixed\n0000000000000000 T vfs_read\n")
    monkeypatch.setitem(features._answers, "kprobe_multi", True)
    asked: list[bytes] = []

    def kernel(command: int, attr: bytearray) -> int:
        count, names, places = struct.unpack_from("<4xIQQ", attr, 16)
        asked.extend([ctypes.string_at(p) for p in struct.unpack(f"<{count}Q", ctypes.string_at(names, 8 * count))])
        assert places == 0
        return os.open("/dev/null", os.O_RDONLY)

    with bpf.override(kernel):
        kprobe_multi.attach(prog, "vfs_*").close()
    assert asked == [b"vfs_read", b"vfs_write"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM])
def test_a_refused_multi_link(prog: LiveProg, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setitem(features._answers, "kprobe_multi", True)
    with bpf.override(lambda command, attr: -number), pytest.raises(UserError) as caught:
        kprobe_multi.attach(prog, "vfs_*")
    want = "refuses one of these 2 functions" if number == errno.EINVAL else "not permitted to use kprobe_multi"
    assert want in caught.value.what


def test_single_probes_count_what_is_refused(prog: LiveProg, pmu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features._answers, "kprobe_multi", False)
    door, seen = answering(0, errno.EINVAL)
    with door, bpf.override(link_created):
        link = kprobe_multi.attach(prog, "vfs_*")
    assert isinstance(link, kprobe_multi.MultiLink)
    assert link.how == "1 single kprobe, 1 left out (1 that the kernel refuses)"
    assert link.functions == ["vfs_read", "vfs_write"]  # by cookie: what is refused keeps its number
    assert seen[0][3] == 0xFFFFFFFF81000000 and link.slow_close
    link.close()


@pytest.mark.parametrize(("number", "text"), [
    (bpf.ENOTSUPP, "cannot attach fentry programs"), (errno.E2BIG, "as many programs"),
    (errno.EBUSY, "has taken this function over"), (errno.EINVAL, 'use kprobe("vfs_read")'),
])  # fmt: skip
def test_refused_trampolines(prog: LiveProg, number: int, text: str) -> None:
    err = explained(prog, "vfs_read", "fentry", OSError(number, "?", "BPF_RAW_TRACEPOINT_OPEN"))
    assert text in str(err) and 'use kprobe("vfs_read")' in err.fix


# --- what was missed ------------------------------------------------------------------------------------------------


@pytest.mark.feature("F6 probes that missed")
def test_missed_hits(monkeypatch: pytest.MonkeyPatch, prog: LiveProg) -> None:
    info = bytearray(64)
    struct.pack_into("<Q", info, 48, 7)
    monkeypatch.setattr(bpf, "obj_get_info", lambda fd, size: bytes(info) if size == 96 else bytes(208) + b"\5")
    link = kprobe.FunctionLink("vfs_read", "", [], counted=[3, 4])
    assert link.missed() == 14
    spec_info = type("Info", (), {"recursion_misses": 5})
    monkeypatch.setattr(LiveProg, "info", lambda self: spec_info)
    found = {(slot.kind, slot.what): (n, sentence(slot, n, {})) for slot, n in missed.read([link], {"probe": prog})}
    assert found["missed", "vfs_read"][0] == 14 and "14 hits missed by the probe" in found["missed", "vfs_read"][1]
    assert found["skipped", "probe"] == (5, "probe: 5 runs skipped: a program was running on that CPU already")
    monkeypatch.setattr(bpf, "obj_get_info", lambda fd, size: bytes(48))  # 6.6 has no counter there
    assert link.missed() is None


def test_a_module_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kprobe, "_modules", lambda: frozenset({"dummy", "ext4"}))
    link = kprobe.FunctionLink("dummy_xmit", "", [])
    monkeypatch.setattr(kallsyms, "refresh", lambda: None)
    assert link.gone() == ""
    monkeypatch.setattr(kprobe, "_modules", lambda: frozenset({"ext4"}))
    assert link.gone() == ""  # its function is still there: another module went
    monkeypatch.setattr(kallsyms, "_text", b"ffffffff81000000 T vfs_read\n")
    assert link.gone() == "dummy"


def test_what_must_never_be_probed(lists: dict[str, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions.never, "_EXACT", {"vfs_write": "the test says so"})
    choice = functions.matching(["vfs_*"])
    assert [one.name for one in choice.functions] == ["vfs_read"] and choice.left == {"that must never be probed": 1}
    for target in ("vfs_write", "vfs_write+8"):
        with pytest.raises(NotSupported) as caught:
            functions.place(target)
        assert str(caught.value) == (
            f"{target} must never be probed: the test says so; probe a function that calls it"
        )
    with pytest.raises(NotSupported):
        functions.matching(["vfs_write"])
    with pytest.raises(NotSupported) as all_of_them:
        functions.matching(["vfs_w*"])
    assert all_of_them.value.what == "the functions that vfs_w* matches must never be probed"
