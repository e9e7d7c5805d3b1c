# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes of user probes, and what it refuses; how the loader does without attach cookies."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from osmia import Hash, Str, User, attach_cookie, s32, u64, uprobe, uretprobe, usdt
from osmia.compiler.stages import compile_unit
from osmia.errors import CompileError
from osmia.kernel import features
from osmia.lang.options import option
from osmia.lang.probes import Prog
from osmia.lang.unit import Unit
from osmia.load import cookies
from osmia.obj import consts, ptregs
from osmia.obj.elf import parse_object
from osmia.obj.spec import ObjectSpec

seen = Hash[u64, u64]()
names = Hash[Str[16], u64]()


def compiled(*progs: Prog) -> ObjectSpec:
    space: dict[str, Any] = {prog.name: prog for prog in progs}
    space |= {"seen": seen, "names": names, "__name__": "sample"}
    return parse_object(compile_unit(Unit("sample", space), btf=None).object, "sample")


@uprobe("c:malloc")
def entry(size: u64, name: User["char"], code: s32, d, e, f, seventh):  # type: ignore[no-untyped-def] # noqa: F821,UP037
    seen[size] += code + d + e + f + seventh
    names[name] += 1


@uretprobe("c:malloc", "c:calloc")
def result(ret: s32) -> None:
    seen[attach_cookie()] += ret


@usdt("python3:python:gc__start")
def static(generation) -> None:  # type: ignore[no-untyped-def]
    seen[generation] += 1


@uprobe("c:malloc+4")
def inside() -> None:
    seen[1] += 1


def test_sections_are_those_of_libbpf() -> None:
    spec = compiled(entry, result, static, inside)
    assert {name: prog.section for name, prog in spec.progs.items()} == {
        "entry": "uprobe/c:malloc", "result": "uretprobe/c:malloc", "static": "usdt/python3:python:gc__start",
        "inside": "uprobe/c:malloc+4",
    }  # fmt: skip
    assert {prog.type for prog in spec.progs.values()} == {consts.BPF_PROG_TYPE_KPROBE}


def test_each_static_probe_has_its_map_of_places() -> None:
    spec = compiled(entry, static)
    assert [name for name in spec.maps if name.startswith("osmia_usdt")] == ["osmia_usdt_static"]
    one = spec.maps["osmia_usdt_static"]
    assert (one.type, one.key_size, one.value_size) == (consts.BPF_MAP_TYPE_ARRAY, 4, 200)


def test_arguments_come_from_the_right_registers() -> None:
    """LDX of 8 bytes from the context (r1 at first): register offsets of pt_regs."""
    spec = compiled(entry)
    offsets = {struct.unpack_from("<h", spec.progs["entry"].insns, at + 2)[0]
               for at in range(0, len(spec.progs["entry"].insns), 8)
               if spec.progs["entry"].insns[at] == 0x79 and spec.progs["entry"].insns[at + 1] >> 4 != 10}  # fmt: skip
    machine = ptregs.machine(__import__("os").uname().machine)
    wanted = {machine.offsets[name] for name in (*machine.args[:6], machine.sp)}
    assert wanted <= offsets or machine is ptregs.ARM64


@uretprobe("c:malloc")
def with_argument(size, ret) -> None:  # type: ignore[no-untyped-def]
    seen[size] += ret


@uprobe("c:malloc")
def with_result(size, ret) -> None:  # type: ignore[no-untyped-def]
    seen[size] += ret


@uprobe("c:malloc+4")
def inside_with_argument(size) -> None:  # type: ignore[no-untyped-def]
    seen[size] += 1


@usdt("a:b")
def thirteen(a, b, c, d, e, f, g, h, i, j, k, m, n) -> None:  # type: ignore[no-untyped-def]
    seen[a] += n


@uprobe("c:malloc")
def with_float(size: float) -> None:
    seen[1] += 1


@pytest.mark.parametrize(("prog", "words", "hint"), [
    (with_argument, "at a return probe there is only ret", "keep it in a map"),
    (with_result, "no return value yet", "use uretprobe"),
    (inside_with_argument, "arguments may be anywhere", "probe the function's start"),
    (thirteen, "at most 12 arguments", ""),
    (with_float, "a parameter is a number or an address", "u32"),
])  # fmt: skip
def test_refusals_say_what_to_do(prog: Prog, words: str, hint: str) -> None:
    with pytest.raises(CompileError) as info:
        compiled(prog)
    assert words in info.value.what and hint in info.value.fix
    assert info.value.column > 0


@pytest.mark.parametrize("target", ["malloc", "", "c:", "c: malloc", "a b:c", None, 5])
def test_targets_are_checked_where_they_are_written(target: Any) -> None:
    for make in (uprobe, uretprobe, usdt):
        with pytest.raises(TypeError, match="write FILE:"):
            make(target)


def test_a_target_may_be_an_option() -> None:
    where = option("-w", type=str, help="where")

    @uprobe(where)
    def any_function(first) -> None:  # type: ignore[no-untyped-def]
        seen[first] += 1

    spec = compiled(any_function)
    assert spec.progs["any_function"].section == "uprobe"
    assert any_function.hooks[0].params["where"] is where


def test_they_run_as_python_too() -> None:
    seen.clear()
    static(2)
    static(2)
    assert seen[2] == 2


# --- attach cookies -----------------------------------------------------------------------------------------------


def test_the_call_for_the_cookie_becomes_a_number() -> None:
    call = struct.pack("<BBhi", 0x85, 0, 0, consts.BPF_FUNC_get_attach_cookie)
    other = struct.pack("<BBhi", 0x85, 0, 0, consts.BPF_FUNC_ktime_get_ns)
    code = bytearray(other + call + other + call)
    assert cookies.asked_for(code) and not cookies.asked_for(other)
    cookies.replace(code, 77)
    move = struct.pack("<BBhi", 0xB7, 0, 0, 77)
    assert code == other + move + other + move
    # The same bytes across two instructions are no call.
    shifted = bytearray(bytes(4) + call + bytes(4))
    assert not cookies.asked_for(shifted)


def test_programs_that_ask_are_known() -> None:
    spec = compiled(entry, result, static)
    assert [cookies.asked_for(spec.progs[name].insns) for name in ("entry", "result", "static")] == [False, True, True]


def test_without_links_there_are_no_cookies() -> None:
    try:
        features.turn_off("bpf_link")
        assert not features.attach_cookies()
        features.turn_off("attach_cookie")
        assert not features.attach_cookies()
    finally:
        features.turn_off()
