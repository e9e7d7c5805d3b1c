# SPDX-License-Identifier: Apache-2.0
"""The objects of all tools and examples are such that other loaders take them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from harness import APART, EXAMPLES, SPECIFIED, bpffs, osmia
from harness import TOOLS as ALIKE
from needs import needs, needs_tracepoint, skip_unbuilt

from osmia.kernel import tracefs
from osmia.load import cookies
from osmia.obj.elf import parse_object

pytestmark = pytest.mark.kernel

TOOLS = [*ALIKE, *[tool for tool in APART if tool not in SPECIFIED]]
#: What tools cannot be without, and since when it is there.
TRACEPOINTS = {"klockstat": ("lock:contention_begin", "5.19"), "tcpcong": ("tcp:tcp_cong_state_set", "5.19")}
#: What tools need of a module that need not be loaded.
MODULES = {"kvmexit": ("kvm", "kvm_exit")}
# An iterator and a timed sample have no section name that libbpf attaches by itself, but it loads them like the rest.
UNITS = [*TOOLS, *map(str, EXAMPLES)]


@pytest.mark.feature("B19 own objects for others")
@pytest.mark.parametrize("unit", UNITS, ids=[Path(u).stem for u in UNITS])
def test_bpftool_loads_the_object(unit: str, tmp_path: Path) -> None:
    if unit in TRACEPOINTS:
        needs_tracepoint(*TRACEPOINTS[unit])
    if unit in MODULES and not tracefs.exists(*MODULES[unit]):
        subprocess.run(["modprobe", "-q", MODULES[unit][0]], check=False)
    if unit in MODULES and not tracefs.exists(*MODULES[unit]):
        module = MODULES[unit][0]
        skip_unbuilt(module.upper(), module, f"the module {module} is not loaded")
    made = tmp_path / "unit.bpf.o"
    run = osmia("compile", unit, "-o", str(made))
    assert run.returncode == 0, run.stderr
    assert made.read_bytes()[:4] == b"\x7fELF"
    spec = parse_object(made.read_bytes(), unit)
    # A long loop takes the address of a function, which kernels before 5.13 do not know: our loader alone puts it out.
    if any(reloc.kind == "func" for one in [*spec.progs.values(), *spec.funcs.values()] for reloc in one.relocs):
        needs("bpf_loop")
    if any(cookies.asked_for(one.insns) for one in spec.progs.values()):  # we put a number there instead
        needs("attach_cookie")
    # Both sides of a plan are in the object, and libbpf loads both.
    if any(one.hook in ("fentry", "fexit", "fmod_ret") for one in spec.progs.values()):
        needs("fentry")
    with bpffs() as place:
        load = subprocess.run(
            ["bpftool", "prog", "loadall", str(made), f"{place}/progs"], capture_output=True, text=True, check=False
        )
        assert load.returncode == 0, load.stderr
        pinned = sorted(p.name for p in Path(place, "progs").iterdir())
        shown = subprocess.run(
            ["bpftool", "-j", "prog", "show", "pinned", f"{place}/progs/{pinned[0]}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(shown.stdout)["btf_id"] > 0, "the program has no BTF, so no line information"
    assert pinned


@pytest.mark.anywhere
@pytest.mark.parametrize("tool", TOOLS)
def test_object_does_not_depend_on_the_run(tool: str, tmp_path: Path) -> None:
    """Compiling twice gives the same bytes."""
    for name in ("one", "two"):
        assert osmia("compile", tool, "-o", str(tmp_path / name)).returncode == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.anywhere
@pytest.mark.feature("B13 tools")
def test_every_tool_is_listed_with_its_first_line() -> None:
    shown = osmia("list").stdout
    for tool in TOOLS:
        source = (Path(__file__).parents[2] / "src" / "osmia" / "tools" / f"{tool}.py").read_text()
        first = source.split('"""')[1].splitlines()[0].rstrip(".")
        assert any(line.split()[:1] == [tool] and first in line for line in shown.splitlines()), shown
