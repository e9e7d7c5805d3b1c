# SPDX-License-Identifier: Apache-2.0
"""Names of addresses in running and ended processes, and in this kernel.

``tests/fixtures/symbols/where.c`` says where its own functions are; whatever
it says must come back as the name and the offset.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import prebuilt
import pytest
from kernel_code import compile_module, module

from osmia.errors import NotFound
from osmia.kernel import bpf_code, cache, features, kallsyms
from osmia.load.object import load
from osmia.obj.elf import parse_object
from osmia.obj.spec import ObjectSpec
from osmia.symbols import symbolizer
from osmia.symbols.frame import JIT, UNKNOWN, USER
from osmia.symbols.image import Image
from osmia.symbols.ksyms import Ksyms
from osmia.symbols.maps import Mapping, Maps
from osmia.symbols.symbolizer import Symbolizer

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]

#: Functions of ours that where.c speaks of.
OWN = ("inner_static", "outer_global", "never_returns")


class Where:
    """A running ``where``: ``said`` is name → (address, start of the function)."""

    def __init__(self, *command: str, root: str | None = None, fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=(lambda: os.chroot(root)) if root else None, cwd="/", pass_fds=fds,
        )  # fmt: skip
        self.said: dict[str, tuple[int, int]] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, address, start = line.split()
            self.said[name] = int(address, 16), 0 if start == "(nil)" else int(start, 16)
            if name == "never_returns":
                break
        assert len(self.said) >= 5, command

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.communicate()

    def __enter__(self) -> Where:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()


@pytest.fixture
def names() -> Iterator[Symbolizer]:
    with Symbolizer() as made:
        yield made


def check(names: Symbolizer, where: Where, pid: int = 0, module: str = "") -> None:
    """Each function comes back under its name, at its offset, with what is needed to find it elsewhere."""
    for name in OWN:
        address, start = where.said[name]
        frame = names.user(pid or where.pid, address)
        assert (frame.name, frame.offset, frame.kind) == (name, address - start, USER), names.notes()
        assert frame.file_offset > 0 and frame.module == (module or frame.module)


@pytest.mark.parametrize("variant", sorted(set(prebuilt.WHERE) - {"bare"}))
def test_a_running_program(names: Symbolizer, variant: str) -> None:
    with Where(prebuilt.where(variant)) as where:
        check(names, where, module=prebuilt.where(variant))
        frame = names.user(where.pid, where.said["inner_static"][0])
        image = Image(prebuilt.where(variant))
        assert frame.build_id == image.build_id() and bool(frame.build_id) == (variant != "checked")
        image.close()
        assert names.build_id(frame.build_id, frame.file_offset).name == "inner_static" or variant == "checked"
        for nothing in (8, 0xDEAD << 32):
            frame = names.user(where.pid, nothing)
            assert (frame.kind, frame.name, frame.label) == (UNKNOWN, "", f"{nothing:#x}")


def test_a_stripped_program_gives_offsets_and_no_wrong_names(names: Symbolizer) -> None:
    with Where(prebuilt.where("bare")) as where:
        for name in OWN:
            frame = names.user(where.pid, where.said[name][0])
            assert frame.name == "" and frame.label == f"[where-bare+{frame.file_offset:#x}]" and frame.build_id
        frame = names.user(where.pid, where.said["inner_static"][0])
        full = prebuilt.where("bare") + ".full"  # later and elsewhere, where the whole file is
        assert names.in_file(full, frame.file_offset).name == "inner_static"


def test_the_last_instruction_of_a_function_may_be_a_call(names: Symbolizer) -> None:
    path = prebuilt.where("pie")
    with Where(path) as where:
        text = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
        [size] = [int(line.split()[1], 16) for line in text.splitlines() if line.endswith(" never_returns")]
        start = where.said["never_returns"][1]
        frames = names.user_stack(where.pid, [start, start + size, where.said["outer_global"][0]])
        assert [frame.name for frame in frames] == ["never_returns", "never_returns", "outer_global"]
        assert frames[1].offset == size and frames[1].address == start + size
        assert names.user(where.pid, start + size).name != "never_returns"
        stacks = [[start], [], [start, start + size], [start + size, start]]
        many = names.user_stacks(where.pid, stacks)
        assert many == [names.user_stack(where.pid, stack) for stack in stacks]


def test_frames_that_are_forgotten_are_made_again(names: Symbolizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolizer, "_MOST_FRAMES", 4)
    with Where(prebuilt.where("pie")) as where:
        addresses = [where.said[name][0] for name in OWN]
        for n in range(10):
            more = [addresses[0] + n, addresses[1], addresses[0], addresses[2]]
            frames = names.users(where.pid, more)
            assert [frame.address for frame in frames] == more
            assert [frame.name for frame in frames[1:]] == ["outer_global", "inner_static", "never_returns"]
            assert len(names.processes.at(where.pid).frames) <= 8


def test_libraries_and_the_vdso(names: Symbolizer) -> None:
    with Where(prebuilt.where("pie")) as where:
        maps = names.processes.at(where.pid).maps
        [libc] = [one for one in maps if "/libc" in one.path]
        image = Image(libc.path)
        nm = subprocess.run(["nm", "-D", "--defined-only", libc.path], capture_output=True, text=True, check=True)
        lines = [line.split() for line in nm.stdout.splitlines()]
        [getpid] = {int(fields[0], 16) for fields in lines if fields[-1].partition("@")[0] == "getpid"}
        offset = image.file_offset(getpid)
        image.close()
        assert offset is not None
        frame = names.user(where.pid, libc.start - libc.offset + offset + 1)
        assert frame.name in ("getpid", "__getpid") and frame.offset == 1 and frame.module_name.startswith("libc")
        vdso = where.said["vdso"][0]
        found = {names.user(where.pid, address).name for address in range(vdso, vdso + 8192, 16)}
        clock = {"x86_64": "clock_gettime", "aarch64": "__kernel_clock_gettime"}.get(os.uname().machine, "")
        assert any(clock in name for name in found)


def test_a_process_that_is_gone(names: Symbolizer) -> None:
    with Where(prebuilt.where("pie")) as where:
        assert names.remember(where.pid)
    assert not Path(f"/proc/{where.pid}").exists()
    check(names, where)
    vdso = where.said["vdso"][0]
    assert any(names.user(where.pid, address).name for address in range(vdso, vdso + 8192, 16))


def test_a_process_that_was_never_seen(names: Symbolizer) -> None:
    with Where(prebuilt.where("pie")) as where:
        pass
    frame = names.user(where.pid, where.said["inner_static"][0])
    assert (frame.kind, frame.name) == (UNKNOWN, "")
    assert names.notes() == [f"process {where.pid}: there is no process {where.pid}"]
    with pytest.raises(NotFound):
        symbolizer.of_process(where.pid, [1])


def test_mappings_captured_by_somebody_else(names: Symbolizer) -> None:
    """What a record of the process's mappings gives when it is handed in after the end."""
    with Where(prebuilt.where("fixed")) as where:
        text = Path(f"/proc/{where.pid}/maps").read_text()
    names.processes.hand_in(Maps.parse(text, where.pid), 1000)
    names.processes.exited(where.pid, 2000)
    address, start = where.said["inner_static"]
    frame = names.user(where.pid, address, 1500)
    assert (frame.name, frame.offset) == ("inner_static", address - start)


def test_file_systems_that_name_their_devices_differently(names: Symbolizer) -> None:
    """btrfs and overlayfs: maps says another device than stat, but the same inode."""
    path = prebuilt.where("fixed")
    with Where(path) as where:
        lines = Path(f"/proc/{where.pid}/maps").read_text().splitlines()
    pid = 5_000_000
    for time, inode, name in ((1000, None, "inner_static"), (2000, "7", "")):
        text = ""
        for line in lines:
            fields = line.split()
            fields[3] = "00:1f"
            fields[4] = inode or fields[4]
            text += " ".join(fields) + "\n"
        names.processes.hand_in(Maps.parse(text, pid), time)
        assert names.user(pid, where.said["inner_static"][0], time).name == name


def test_a_library_in_the_place_of_another(names: Symbolizer) -> None:
    """What was resolved before dlclose and dlopen does not stay."""
    with Where(prebuilt.where("fixed")) as where:
        maps = Maps.parse(Path(f"/proc/{where.pid}/maps").read_text(), 5_000_000)
        other = next(one for one in maps if one.path == prebuilt.where("fixed"))
        names.processes.hand_in(maps, 1000)
        address = where.said["inner_static"][0]
        assert names.user(5_000_000, address, 1500).name == "inner_static"
        names.processes.mapped(5_000_000, Mapping(other.start, other.end, 0, "/no/such/library"), 2000)
        frame = names.user(5_000_000, address, 2500)
        assert frame.name == "" and frame.module == "/no/such/library"


def test_one_number_two_programs(names: Symbolizer) -> None:
    """Programs at fixed addresses: only the time tells which one an address belongs to."""
    with Where(prebuilt.where("fixed")) as one, Where(prebuilt.where("static")) as two:
        pid = 5_000_000
        for where, time in ((one, 1000), (two, 2000)):
            names.processes.hand_in(Maps.parse(Path(f"/proc/{where.pid}/maps").read_text(), pid), time)
    for where, time, path in ((one, 1500, "fixed"), (two, 2500, "static")):
        address, start = where.said["inner_static"]
        frame = names.user(pid, address, time)
        assert (frame.name, frame.offset, frame.module) == ("inner_static", address - start, prebuilt.where(path))


def test_a_program_that_runs_another(names: Symbolizer) -> None:
    script = f"echo sh 1 1; read go; exec {prebuilt.where('pie')}"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    assert names.remember(process.pid)
    assert any(one.path.endswith("sh") for one in names.processes.at(process.pid).maps)
    process.stdin.write("go\n")
    process.stdin.flush()
    said = {}
    for line in process.stdout:
        said[line.split()[0]] = int(line.split()[1], 16)
        if line.startswith("never_returns"):
            break
    assert names.user(process.pid, said["inner_static"]).name == "inner_static"
    process.communicate()


def test_a_library_that_is_loaded_later(names: Symbolizer, tmp_path: Path) -> None:
    me = os.getpid()
    assert names.remember(me)
    path = shutil.copy(prebuilt.user("libtarget"), tmp_path / "libtarget.so")
    library = ctypes.CDLL(str(path))
    text = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    name = next(line.split()[2] for line in text.splitlines() if line.split()[1] == "T")
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address
    frame = names.user(me, address + 1)
    assert (frame.name, frame.offset, frame.module) == (name, 1, str(path))


# --- files that are not where they were ---------------------------------------------------------------------------


def test_a_deleted_program(names: Symbolizer, tmp_path: Path) -> None:
    path = shutil.copy(prebuilt.where("pie"), tmp_path / "where")
    with Where(str(path)) as where:
        os.unlink(path)
        check(names, where, module=str(path))


def test_a_replaced_program(names: Symbolizer, tmp_path: Path) -> None:
    """An upgrade puts another file in its place: addresses of the old one must not be looked up in the new one."""
    path = shutil.copy(prebuilt.where("fixed"), tmp_path / "where")
    with Where(str(path)) as where:
        early = Maps.capture(where.pid)
        shutil.copy(prebuilt.where("static"), tmp_path / "new")
        os.rename(tmp_path / "new", path)
        check(names, where, module=str(path))
    with Symbolizer() as late:  # nobody opened the old file while it could be
        late.processes.hand_in(early)
        for name in OWN:
            frame = late.user(where.pid, where.said[name][0])
            assert frame.name == "" and frame.label == f"[where+{frame.file_offset:#x}]"
        assert f"{path}: another file has this name now" in late.notes()


def test_a_program_that_is_in_memory_only(names: Symbolizer) -> None:
    """runc and others run copies of themselves from a memfd."""
    program = os.memfd_create("where", 0)
    try:
        raw = Path(prebuilt.where("static")).read_bytes()
        assert os.write(program, raw) == len(raw)
        with Where(f"/proc/self/fd/{program}", fds=(program,)) as where:
            check(names, where, module="/memfd:where")
    finally:
        os.close(program)


def test_a_chroot(tmp_path: Path) -> None:
    """The path means another file to us; with its JIT map, after its end, and stripped with its own debug package."""
    for folder in ("usr", "tmp"):
        (tmp_path / folder).mkdir()
    shutil.copy(prebuilt.where("static"), tmp_path / "usr/where")
    for ended in (False, True):
        with Symbolizer() as names, Where("/usr/where", "jit", "/tmp", root=str(tmp_path)) as where:
            if ended:
                assert names.remember(where.pid)
                where.end()
            check(names, where, module="/usr/where")
            jitted(names, where)
    with Where("/usr/where", root=str(tmp_path)) as where:
        early = Maps.capture(where.pid)
    with Symbolizer() as names:  # its root is held, so that its files can still be opened
        names.processes.hand_in(early)
        check(names, where, module="/usr/where")
    image = Image(str(tmp_path / "usr/where"))
    id = image.build_id()
    image.close()
    debug = tmp_path / f"usr/lib/debug/.build-id/{id[:2]}"
    debug.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", tmp_path / "usr/where", debug / f"{id[2:]}.debug"], check=True)
    subprocess.run(["strip", tmp_path / "usr/where"], check=True)
    with Symbolizer() as names, Where("/usr/where", root=str(tmp_path)) as where:
        check(names, where, module="/usr/where")


def test_processes_of_one_root_share_one_descriptor(tmp_path: Path) -> None:
    shutil.copy(prebuilt.where("static"), tmp_path / "where")
    with Where("/where", root=str(tmp_path)) as one, Where("/where", root=str(tmp_path)) as two:
        started = len(os.listdir("/proc/self/fd"))
        held = [Maps.capture(where.pid) for where in (one, two, one)]
        held.append(held[0].copy(5_000_000))
        assert len({maps.root for maps in held}) == 1 and held[0].root
        assert len(os.listdir("/proc/self/fd")) == started + 1
        for maps in held[:3]:
            maps.close()
        assert os.path.samefile(held[3].root, tmp_path)
        held[3].close()
        held[3].close()
        assert len(os.listdir("/proc/self/fd")) == started


def test_a_container(tmp_path: Path) -> None:
    """A mount and a PID namespace of its own: another /tmp, and another number in the map's name."""
    program, made = prebuilt.where("static"), tmp_path / "mnt"
    made.mkdir()
    script = f"mount -t tmpfs none {made} && cp {program} {made}/where && mount --bind {made} /mnt && " \
             "mount -t tmpfs none /tmp && exec /mnt/where jit /tmp"  # fmt: skip
    with Symbolizer() as names, Where("unshare", "-m", "-p", "-f", "sh", "-c", script) as where:
        [pid] = map(int, Path(f"/proc/{where.pid}/task/{where.pid}/children").read_text().split())
        assert where.said["pid"][0] == 1 and not Path("/mnt/where").exists()
        check(names, where, pid, module="/mnt/where")
        jitted(names, where, pid)


# --- code made at run time ----------------------------------------------------------------------------------------


def jitted(names: Symbolizer, where: Where, pid: int = 0) -> None:
    frame = names.user(pid or where.pid, where.said["jitted"][0])
    assert (frame.name, frame.offset, frame.kind) == ("jitted function:1", 5, JIT)
    frame = names.user(pid or where.pid, where.said["nameless"][0])
    assert (frame.name, frame.kind, frame.label) == ("", UNKNOWN, "[anon]")


def test_code_of_a_jit_compiler(names: Symbolizer) -> None:
    with Where(prebuilt.where("pie"), "jit", "/tmp") as where:
        try:
            jitted(names, where)
        finally:
            os.unlink(f"/tmp/perf-{where.pid}.map")


def test_a_map_of_somebody_else_is_not_believed(names: Symbolizer) -> None:
    """Anybody may put a file of that name into /tmp."""
    with Where(prebuilt.where("pie"), "jit", "/tmp") as where:
        path = f"/tmp/perf-{where.pid}.map"
        try:
            os.chown(path, 4242, 4242)
            assert names.user(where.pid, where.said["jitted"][0]).name == ""
        finally:
            os.unlink(path)


# --- the kernel ---------------------------------------------------------------------------------------------------


def test_every_function_of_this_kernel() -> None:
    """Its start has one of its names; inside of it too, where no other symbol is."""
    rows: dict[int, set[str]] = {}
    bounds = {}
    for line in kallsyms.text().decode().splitlines():
        fields = line.split()
        if fields[2] in ("_sinittext", "_einittext"):
            bounds[fields[2]] = int(fields[0], 16)
        if len(fields) == 3:
            rows.setdefault(int(fields[0], 16), set()).add(fields[2] if fields[1] in "tTwW" else "")
    ksyms = Ksyms()
    assert not ksyms.problem
    starts = sorted(rows)
    first, last = bounds["_sinittext"], bounds["_einittext"]
    checked = 0
    for n in random.Random(1).sample(range(len(starts) - 1), 4000):
        start = starts[n]
        marks = all(name == "" or name.endswith(("text", "_text_start", "_text_end")) or name.startswith("__init")
                    for name in rows[start])  # fmt: skip
        if marks or first <= start <= last:
            continue
        for address in (start, (start + starts[n + 1]) // 2, starts[n + 1] - 1):
            frame = ksyms.frame(address)
            assert frame.name in rows[start] and frame.offset == address - start, (hex(address), rows[start])
            checked += 1
    assert checked > 3000


def test_the_second_run_takes_the_table_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSMIA_CACHE", str(tmp_path / "cache"))
    code, _ = kallsyms.find("vfs_read")
    first = Ksyms()
    assert first.frame(code[0].address + 3).name == "vfs_read"

    def never() -> bytes:
        raise AssertionError("kallsyms was read again")

    monkeypatch.setattr(kallsyms, "read", never)
    second = Ksyms()
    frame = second.frame(code[0].address + 3)
    assert frame == first.frame(code[0].address + 3) and (frame.name, frame.offset) == ("vfs_read", 3)
    assert not second.problem and cache.read("kernel-symbols") is not None


def test_loaded_bpf_programs_have_names_also_when_they_are_gone(
    live_spec: Callable[[str], ObjectSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OSMIA_CACHE", str(tmp_path / "cache"))
    ksyms = Ksyms()
    assert not ksyms.problem
    spec = live_spec("live")
    before = bpf_code.lengths()
    with load(spec, optional=["run"]):
        new = {start: size for start, size in bpf_code.lengths().items() if start not in before}
        assert new and all(0 < size < 1 << 20 for size in new.values())
        ksyms.snapshot()
    for start, size in new.items():
        for address in (start, start + size - 1):
            frame = ksyms.frame(address)
            assert frame.name.startswith("bpf_prog_") and frame.module == "bpf" and frame.offset == address - start
    assert {"on_enter", "on_raw"} <= {ksyms.frame(start).name.split("_", 3)[3] for start in new}


COUNTER = """
n = Array[u64](1)

@tracepoint("syscalls:sys_enter_getpgid")
def a_name_that_is_longer_than_fifteen_bytes(call):
    n[0] += 1
"""


@pytest.mark.parametrize("typed", [True, False])
def test_our_own_programs_need_no_kallsyms(monkeypatch: pytest.MonkeyPatch, typed: bool) -> None:
    """They are called there as they are called here, also where the kernel does not have their types."""
    if not typed:
        features.turn_off("object_btf")
    try:
        live = load(parse_object(compile_module(module(COUNTER)), "own"))
    finally:
        features.turn_off()
    with live:
        (prog,) = live.progs.values()
        lines = [line.split() for line in kallsyms.read().decode().splitlines() if prog.info().tag in line]
        first, size = next(iter(bpf_code.lengths_of(prog.fd).items()))
        assert [(int(start, 16), name) for start, _, name, _ in lines] == [(first, lines[0][2])]
        Ksyms().frame(1)  # the table of the kernel is in the cache now

        def never() -> bytes:
            raise AssertionError("kallsyms was read")

        monkeypatch.setattr(kallsyms, "read", never)
        ksyms = Ksyms(programs=lambda: [(prog.fd, prog.name)])
        for offset in (0, size - 1):
            frame = ksyms.frame(first + offset)
            assert (frame.name, frame.module, frame.offset) == (lines[0][2], "bpf", offset)
    assert ksyms.frame(first).name == lines[0][2], "still known when it is gone"
    assert ("fifteen" in frame.name) == typed


def test_without_the_privilege_there_are_no_names() -> None:
    """As nobody, with nobody's cache."""
    code = (
        "import codecs, os, zlib, osmia.kernel.proc, osmia.kernel.bpf_code  # nobody may not read the package\n"
        "codecs.lookup('ascii')\n"
        "from osmia.symbols.ksyms import Ksyms\n"
        "os.environ['OSMIA_CACHE'] = '/nonexistent'\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "k = Ksyms(); f = k.frame(0xffffffff81000100); print(repr(f.name), k.problem)"
    )
    restricted = Path("/proc/sys/kernel/kptr_restrict").read_text().strip() != "0"
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) > 1
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if restricted or paranoid:
        assert done.stdout.startswith("'' the kernel hides where its functions are")
    else:
        assert done.stdout.startswith("'")
