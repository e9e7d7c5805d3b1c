# SPDX-License-Identifier: Apache-2.0
"""Facts of a machine, read from files that the tests make up."""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmia.errors import NotFound, NotPermitted, NotSupported, UserError
from osmia.kernel import btf_source, caps, cpus, features, proc, tracefs
from osmia.obj.btf_write import SIGNED, BtfBuilder

Files = Callable[[dict[str, str | bytes | None]], None]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Contents of files by path (None: absent); other paths are real."""

    def set_files(contents: dict[str, str | bytes | None]) -> None:
        real = builtins.open

        def fake(path: object, mode: str = "r", *args: object, **named: object) -> object:
            if path not in contents:
                return real(path, mode, *args, **named)  # type: ignore[call-overload]
            data = contents[path]  # type: ignore[index]
            if data is None:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            raw = data.encode() if isinstance(data, str) else data
            return io.BytesIO(raw) if "b" in mode else io.StringIO(raw.decode())

        monkeypatch.setattr(builtins, "open", fake)

    return set_files


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[None]:
    monkeypatch.setenv("OSMIA_CACHE", str(tmp_path / "own-cache"))
    monkeypatch.setattr(btf_source, "_btfs", {})
    monkeypatch.setattr(btf_source, "_ids", None)
    monkeypatch.setattr(btf_source, "_kernel_id", "")
    yield
    features.turn_off()
    btf_source.use("")


@pytest.mark.parametrize(("text", "expected"), [
    ("0-3\n", [0, 1, 2, 3]), ("0", [0]), ("0,2-3,8\n", [0, 2, 3, 8]), ("", []), ("5-5", [5]),
])  # fmt: skip
def test_cpu_lists(text: str, expected: list[int]) -> None:
    assert cpus.parse(text) == expected


@given(st.sets(st.integers(0, 500)))
def test_cpu_lists_with_gaps(numbers: set[int]) -> None:
    assert cpus.parse(",".join(map(str, sorted(numbers)))) == sorted(numbers)


def test_cpu_lists_that_are_none(files: Files) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        cpus.parse("many")
    files({"/sys/devices/system/cpu/online": b"0,3\n"})
    assert cpus.online() == [0, 3]
    files({"/sys/devices/system/cpu/online": None})
    assert cpus.online() == list(range(os.cpu_count() or 1))


def test_capabilities(files: Files) -> None:
    files({"/proc/self/status": "Name:\tx\nCapEff:\t%016x\n" % (1 << 38 | 1 << 34)})
    assert caps.effective() == {"CAP_PERFMON", "CAP_SYSLOG"}
    assert caps.missing("load a tracing program") == ["CAP_BPF (or CAP_SYS_ADMIN)"]
    assert caps.missing("read kernel addresses") == []
    files({"/proc/self/status": "CapEff:\t%016x\n" % (1 << 21)})
    assert caps.missing("attach a program") == []
    files({"/proc/self/status": None})
    assert caps.effective() is None and caps.missing("attach a program") == []


def refused(number: int) -> str:
    return str(caps.refused("attach a program", OSError(number, os.strerror(number), "BPF_LINK_CREATE"), where="p"))


def test_refusals_say_why(files: Files) -> None:
    everything = "CapEff:\t%016x\n" % ((1 << 41) - 1)
    status, down = "/proc/self/status", "/sys/kernel/security/lockdown"
    files({status: "CapEff:\t0\n"})
    assert refused(errno.EPERM) == (
        "p: not permitted to attach a program (BPF_LINK_CREATE: Operation not permitted); missing CAP_BPF (or "
        "CAP_SYS_ADMIN) and CAP_PERFMON (or CAP_SYS_ADMIN): run as root or grant it (setcap, podman --cap-add)"
    )
    files({status: everything, down: "none integrity [confidentiality]\n"})
    assert caps.lockdown() == "confidentiality"
    assert "kernel lockdown is in confidentiality mode" in refused(errno.EPERM)
    files({status: everything, down: "[none] integrity confidentiality\n",
           "/proc/sys/kernel/perf_event_paranoid": "4\n"})  # fmt: skip
    assert "perf_event_paranoid is 4" in refused(errno.EACCES)
    files({status: everything, down: None, "/proc/sys/kernel/perf_event_paranoid": "2\n"})
    assert caps.lockdown() is None
    assert "seccomp" in refused(errno.EPERM)


def note(name: bytes, kind: int, data: bytes) -> bytes:
    return (struct.pack("<III", len(name), len(data), kind) + name.ljust(len(name) + 3 & ~3, b"\0")
            + data.ljust(len(data) + 3 & ~3, b"\0"))  # fmt: skip


def test_kernel_id_is_the_build_id(files: Files) -> None:
    notes = note(b"Linux\0", 257, b"6.1-x") + note(b"GNU\0", 1, b"abcd") + note(b"GNU\0", 3, bytes(range(20)))
    files({"/sys/kernel/notes": notes})
    assert btf_source.kernel_id() == bytes(range(20)).hex()


def test_kernel_id_without_notes(files: Files) -> None:
    files({"/sys/kernel/notes": None})
    id = btf_source.kernel_id()
    assert os.uname().machine in id and all(c.isalnum() or c in "._-" for c in id)


def small_btf() -> bytes:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, SIGNED)
    builder.add_struct("thing", 4, [("x", number, 0)])
    return builder.bytes()


def elf_with(section: bytes, data: bytes) -> bytes:
    names = b"\0.shstrtab\0" + section + b"\0"
    body = 64
    headers = body + len(data) + len(names)
    head = b"\x7fELF\x02\x01\x01".ljust(40, b"\0") + struct.pack("<Q10xHHH", headers, 64, 3, 2)
    rows = [(0, 0, 0, 0, 0, 0), (11, 1, 0, 0, body, len(data)), (1, 3, 0, 0, body + len(data), len(names))]
    return head + data + names + b"".join(struct.pack("<IIQQQQ", *row).ljust(64, b"\0") for row in rows)


@pytest.mark.parametrize("elf", [False, True])
def test_named_btf_files(tmp_path: pathlib.Path, elf: bool) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(elf_with(b".BTF", small_btf()) if elf else small_btf())
    btf_source.use(str(path))
    btf = btf_source.kernel_btf()
    assert btf is not None and btf_source.is_chosen() and btf_source.find() == str(path)
    assert btf.get(btf.find("thing", 4)).members[0].name == "x"


@pytest.mark.parametrize(("content", "message"), [
    (b"nonsense", "neither BTF nor an ELF file"), (b"", "neither BTF nor an ELF file"),
    (elf_with(b".text", b"abc"), "no .BTF section"), (b"\x7fELF\x02\x01", "damaged ELF file"),
    (elf_with(b".BTF", b"abc")[:-100], "damaged ELF file"), (b"\x7fELF\x01\x01" + bytes(60), "64-bit little-endian"),
])  # fmt: skip
def test_bad_btf_files(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    btf_source.use(str(path))
    with pytest.raises(UserError, match=message) as caught:
        btf_source.kernel_btf()
    assert str(path) in str(caught.value)


def test_missing_btf_files() -> None:
    btf_source.use("/nowhere/vmlinux")
    with pytest.raises(NotFound, match="/nowhere/vmlinux: cannot read type information: No such file"):
        btf_source.kernel_btf()


def test_no_btf_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    features.turn_off("btf")
    assert btf_source.kernel_btf() is None
    assert btf_source.type_id("task_struct", 4) == 0 and btf_source.attach_target("x", 12) == (0, 0)
    with pytest.raises(NotSupported, match=r"tried /sys/kernel/btf/vmlinux.*--btf FILE"):
        btf_source.find()


def test_distribution_vmlinux_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features._answers, "btf", False)
    monkeypatch.setattr(btf_source, "PLACES", (f"{tmp_path}/none-%s", f"{tmp_path}/vmlinux-%s"))
    path = tmp_path / f"vmlinux-{os.uname().release}"
    path.write_bytes(elf_with(b".BTF", small_btf()))
    assert btf_source.find() == str(path)
    assert btf_source.kernel_btf() is not None


def test_type_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from osmia.obj.btf import Btf

    monkeypatch.setitem(features._answers, "btf", True)
    monkeypatch.setattr(btf_source, "_running_btf", lambda: Btf(small_btf()))
    assert btf_source.type_id("thing", 4) == 2
    monkeypatch.setattr(btf_source, "_ids", None)  # as in the next process
    monkeypatch.setattr(btf_source, "_running_btf", lambda: pytest.fail("looked into the BTF again"))
    assert btf_source.type_id("thing", 4) == 2


@pytest.fixture
def tree(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for name, id in (("sched/sched_switch", 1), ("sched/sched_wakeup", 2), ("block/block_rq_issue", 3)):
        event = tmp_path / "tracing" / "events" / name
        event.mkdir(parents=True)
        (event / "id").write_text(f"{id}\n")
        (event / "format").write_text(f"name: {event.name}\n")
    monkeypatch.setattr(tracefs, "_found", [])
    monkeypatch.setattr(tracefs, "_PLACES", (str(tmp_path / "none"), str(tmp_path / "tracing")))
    return tmp_path


def test_an_empty_tracefs_is_lockdowns_doing(tree: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tree / "empty"
    place.mkdir()
    monkeypatch.setattr(tracefs, "_PLACES", (str(place), str(tree / "none")))
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(place))
    monkeypatch.setattr(caps, "missing", lambda action: [])
    monkeypatch.setattr(caps, "lockdown", lambda: "confidentiality")
    with pytest.raises(NotPermitted, match=r"read tracefs \(.*: it is empty\); kernel lockdown is in conf"):
        tracefs.root()


def test_tracepoints(tree: pathlib.Path) -> None:
    assert tracefs.root() == str(tree / "tracing")
    assert tracefs.tracepoint_id("sched", "sched_wakeup") == 2
    assert tracefs.format("block", "block_rq_issue") == "name: block_rq_issue\n"
    assert tracefs.categories() == ["block", "sched"]
    assert tracefs.tracepoints("sched") == ["sched_switch", "sched_wakeup"] and tracefs.tracepoints("x") == []
    assert tracefs.exists("sched", "sched_switch") and not tracefs.exists("sched", "switch")


@pytest.mark.parametrize(("category", "name", "hint"), [
    ("sched", "sched_swich", "did you mean sched:sched_switch"), ("shed", "sched_switch", "sched:sched_switch?"),
    ("vfs", "block_rq_issue", "did you mean block:block_rq_issue"), ("..", "events", ""), ("sched", "../block/x", ""),
    ("zzz", "yyy", ""),
])  # fmt: skip
def test_unknown_tracepoints(tree: pathlib.Path, category: str, name: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        tracefs.tracepoint_id(category, name)
    assert f"no tracepoint {category}:{name}" in str(caught.value) and hint in str(caught.value)


def test_no_tracefs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "_found", [])
    monkeypatch.setattr(tracefs, "_PLACES", (str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(NotSupported, match="no tracefs"):
        tracefs.root()


def test_wall_clock_offset() -> None:
    mono, offset = time.clock_gettime_ns(time.CLOCK_MONOTONIC), proc.wall_offset_ns()
    assert abs(mono + offset - time.time_ns()) < 50_000_000
    assert proc.boot_offset_ns() >= 0 and proc.clock_ticks() >= 100


@given(st.integers(1, 1 << 30))
def test_ring_sizes(size: int) -> None:
    rounded = proc.ring_size(size)
    assert rounded >= size and rounded % proc.page_size() == 0
    assert rounded & rounded - 1 == 0 and (rounded == proc.page_size() or rounded // 2 < size)
