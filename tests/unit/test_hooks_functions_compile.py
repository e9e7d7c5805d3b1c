# SPDX-License-Identifier: Apache-2.0
"""Where the arguments of probes on kernel functions come from, on x86-64 and arm64, by made-up types."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from osmia.compiler.stages import build, typed
from osmia.errors import CompileError, NotFound
from osmia.lang.function_probes import fentry, fexit, kprobe, kprobe_multi, kretprobe, lsm
from osmia.lang.options import Option
from osmia.lang.unit import Unit
from osmia.obj.btf import Btf
from osmia.obj.btf_write import BOOL, SIGNED, BtfBuilder

_numbers = itertools.count(1)
Listing = Callable[..., str]


def kernel(arm: bool = False, module: bool = False) -> Btf:
    """``struct file``, ``busy(file, kuid, narrow, flag, a, b, late)`` and, in the split BTF, ``inner(thing)``."""
    b = BtfBuilder()
    u64 = b.add_int("long unsigned int", 8)
    s32 = b.add_int("int", 4, SIGNED)
    u16 = b.add_int("short unsigned int", 2)
    flag = b.add_int("_Bool", 1, BOOL)
    names = ("regs", "sp", "pc", "pstate") if arm else ("di", "si", "orig_ax", "ip")
    b.add_struct("pt_regs", 336 if arm else 168, [(name, u64, 64 * at) for at, name in enumerate(names)])
    file = b.add_ptr(b.add_struct("file", 16, [("f_flags", s32, 0), ("f_pos", u64, 64)]))
    kuid = b.add_typedef("kuid_t", b.add_struct("", 4, [("val", s32, 0)]))
    wide = b.add_struct("wide", 24, [("a", u64, 0), ("b", u64, 64), ("c", u64, 128)])
    pair = b.add_struct("pair", 16, [("first", u64, 0), ("second", u64, 64)])
    params = [("file", file), ("kuid", kuid), ("narrow", u16), ("flag", flag), ("a", u64), ("b", u64), ("late", s32)]
    b.add_func("busy", b.add_func_proto(s32, params))
    b.add_func("pairs", b.add_func_proto(file, [("pair", pair), ("after", u64), ("table", b.add_ptr(file))]))
    b.add_func("byvalue", b.add_func_proto(0, [("wide", wide)]))
    b.add_func("bpf_lsm_file_open", b.add_func_proto(s32, [("file", file)]))
    base = Btf(b.bytes(), name="kernel")
    if not module:
        return base
    split = BtfBuilder(base)
    thing = split.add_ptr(split.add_struct("thing", 8, [("x", u64, 0)]))
    split.add_func("inner", split.add_func_proto(0, [("thing", thing)]))
    return Btf(split.bytes(), base=base, name="module")


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    def make(text: str, arm: bool = False) -> str:
        name = f"hooks_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text("from osmia import *\nn = Array[u64](4)\n" + text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        made = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        split = kernel(arm, module=True)
        unit = Unit("test", vars(made))
        from osmia.compiler.dump import dump

        def module_types(module: str, function: str) -> Btf | None:
            return split if module in ("", "mod") and function == "inner" else None

        return dump(typed(unit, btf=split.base, module_types=module_types))

    return make


def lines_with(text: str, word: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if word in line]


@pytest.mark.parametrize(("arm", "places"), [
    (False, {"file": 112, "kuid": 104, "narrow": 96, "flag": 88, "a": 72, "b": 64}),
    (True, {"file": 0, "kuid": 8, "narrow": 16, "flag": 24, "a": 32, "b": 40, "late": 48}),
])  # fmt: skip
def test_registers(listing: Listing, arm: bool, places: dict[str, int]) -> None:
    names = "file, kuid, narrow, flag, a, b, late"
    for name, offset in places.items():
        what = {"file": "file.f_pos", "kuid": "kuid.val", "flag": "1 if flag else 0"}.get(name, name)
        text = listing(f'@kprobe("busy")\ndef probe({names}):\n    n[0] += {what}\n', arm)
        found = lines_with(text, f"[ctx + {offset}]" if offset else "[ctx]")
        assert found, (name, text)
        others = [other for key, other in places.items() if other != offset and other]
        assert not any(lines_with(text, f"[ctx + {other}]") for other in others), (name, text)


def test_the_seventh_argument_is_on_the_stack(listing: Listing) -> None:
    text = listing('@kprobe("busy")\ndef probe(file, kuid, narrow, flag, a, b, late):\n    n[0] += late\n')
    assert lines_with(text, "[ctx + 152]")  # the stack pointer
    assert lines_with(text, "probe_read_kernel") and lines_with(text, "8")


def test_slots_count_structures(listing: Listing) -> None:
    """A structure of 16 bytes takes two slots, and two registers."""
    text = listing('@fexit("pairs")\ndef probe(pair, after, table, ret):\n    n[0] += after\n    n[1] += ret.f_pos\n')
    assert lines_with(text, "[ctx + 16]") and lines_with(text, "[ctx + 32]")
    text = listing('@kprobe("pairs")\ndef probe(pair, after):\n    n[0] += after\n    n[1] += pair.second\n')
    assert lines_with(text, "[ctx + 96]") and lines_with(text, "[ctx + 104]") and lines_with(text, "[ctx + 112]")


def test_only_what_is_used_is_read(listing: Listing) -> None:
    text = listing('@fentry("pairs")\ndef probe(pair, after, table):\n    n[0] += 1\n')
    assert not lines_with(text, "[ctx") and "get_func_arg" not in text
    text = listing('@fentry("pairs")\ndef probe(pair, after, table):\n    n[0] += table\n')
    assert "get_func_arg" in text  # a pointer to a pointer: the verifier would refuse to load it


def test_functions_of_modules(listing: Listing) -> None:
    for name in ("inner", "mod:inner"):
        text = listing(f'@kprobe("{name}")\ndef probe(thing):\n    n[0] += thing.x\n')
        assert lines_with(text, "thing")
    with pytest.raises(NotFound, match="has no function other:inner"):
        listing('@fentry("other:inner")\ndef probe(thing):\n    n[0] += 1\n')


def test_refusals(listing: Listing) -> None:
    def refused(text: str) -> CompileError | NotFound:
        with pytest.raises((CompileError, NotFound)) as caught:
            listing(text)
        return caught.value

    assert "passed by value in memory" in refused('@kprobe("byvalue")\ndef f(wide):\n    n[0] += wide.a\n').what
    assert "returns nothing" in refused('@fexit("byvalue")\ndef f(wide, ret):\n    n[0] += ret\n').what
    assert "not argument 1 of busy" in refused('@kprobe("busy")\ndef f(flag):\n    n[0] += flag\n').what
    assert "cannot be evaluated" in refused('@kprobe("busy")\ndef f(file: "Nothing"):\n    n[0] += file\n').what
    text = '@kprobe("busy")\ndef f(file: str):\n    n[0] += file\n'
    assert "a number or an address" in refused(text).what
    assert "inside of busy" in refused('@kprobe("busy+3")\ndef f(file):\n    n[0] += 1\n').what
    text = "def g():\n    return func_ip()\n@kprobe(\"busy\")\ndef f():\n    n[0] += g()\n"
    assert "in a probe's own function only" in refused(text).what
    near = refused('@fentry("bussy")\ndef f():\n    n[0] += 1\n')
    assert isinstance(near, NotFound) and near.fix == "did you mean busy?"


def test_what_these_types_lack_is_left_out_of_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.py"
    path.write_text("from osmia import *\nn = Array[u64](4)\n"
                    '@first_of(fentry("absent"), kprobe("busy"))\ndef f():\n    n[0] += 1\n')  # fmt: skip
    spec = importlib.util.spec_from_file_location("plan_of_hooks", path)
    assert spec and spec.loader
    made = sys.modules["plan_of_hooks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    mod = build(Unit("test", vars(made)), kernel(), None)
    assert [func.name for func in mod.module.funcs if func.section] == ["f__kprobe"]
    assert [record[:2] for record in mod.meta if record[0] == "left"] == [("left", "f__fentry")]


def test_without_types(tmp_path: Path) -> None:
    """No BTF at all: a kprobe without arguments, or with annotated ones, still compiles; the others say why not."""
    for number, (text, fine) in enumerate([
        ('@kprobe("busy")\ndef f():\n    n[0] += 1\n', True),
        ('@kprobe("busy")\ndef f(a: u64, b: User["char"]):\n    n[0] += a + b\n', True),
        ('@kprobe("busy")\ndef f(a):\n    n[0] += a\n', False),
        ('@fentry("busy")\ndef f():\n    n[0] += 1\n', False),
    ]):  # fmt: skip
        path = tmp_path / f"untyped_{number}.py"
        path.write_text("from osmia import *\nn = Array[u64](4)\n" + text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec and spec.loader
        made = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        unit = Unit("test", vars(made))
        if fine:
            typed(unit, btf=None)
        else:
            with pytest.raises(NotFound):
                typed(unit, btf=None)


def test_sections_and_names() -> None:
    assert kprobe("vfs_read+4").hooks[0].section == "kprobe/vfs_read+4"
    assert kprobe_multi("vfs_*").hooks[0].section == "kprobe.multi/vfs_*"
    assert kprobe_multi("a", "b").hooks[0].section == "kprobe.multi"
    assert kprobe_multi(Option("pattern", type=str)).hooks[0].params["patterns"]
    assert lsm("bpf_lsm_file_open").hooks[0].target == "file_open"
    for bad in (lambda: kretprobe("a+1"), lambda: fentry("a+1"), lambda: fexit("a b"), lambda: kprobe(""),
                kprobe_multi, lambda: kprobe(3)):  # fmt: skip
        with pytest.raises(TypeError):
            bad()
