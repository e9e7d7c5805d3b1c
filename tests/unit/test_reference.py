# SPDX-License-Identifier: Apache-2.0
"""The reference guide has everything, with examples, and is current; the pages for newcomers leave nothing out."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import itertools
import re
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import osmia
from osmia.compiler import calls
from osmia.lang.hist import Hist
from osmia.lang.maps import MapBase

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def gen_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_reference", ROOT / "scripts" / "gen_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GEN = gen_reference()
PUBLIC = GEN.public()

#: The headings of bcc's reference guide (its section on errors and the environment included).
BCC = """
kprobes; kretprobes; Tracepoints; uprobes; uretprobes; USDT probes; Raw Tracepoints; system call tracepoints; kfuncs;
kretfuncs; LSM Probes; BPF ITERATORS; bpf_probe_read_kernel(); bpf_probe_read_kernel_str(); bpf_ktime_get_ns();
bpf_get_current_pid_tgid(); bpf_get_current_uid_gid(); bpf_get_current_comm(); bpf_get_current_task(); bpf_log2l();
bpf_get_prandom_u32(); bpf_probe_read_user(); bpf_probe_read_user_str(); bpf_get_ns_current_pid_tgid();
bpf_override_return(); bpf_trace_printk(); BPF_PERF_OUTPUT; perf_submit(); perf_submit_skb(); BPF_RINGBUF_OUTPUT;
ringbuf_output(); ringbuf_reserve(); ringbuf_submit(); ringbuf_discard(); ringbuf_query(); BPF_TABLE; Pinned Maps;
BPF_HASH; BPF_ARRAY; BPF_HISTOGRAM; BPF_STACK_TRACE; BPF_PERF_ARRAY; BPF_PERCPU_HASH; BPF_PERCPU_ARRAY; BPF_LPM_TRIE;
BPF_PROG_ARRAY; BPF_DEVMAP; BPF_CPUMAP; BPF_XSKMAP; BPF_ARRAY_OF_MAPS; BPF_HASH_OF_MAPS; BPF_STACK; BPF_QUEUE;
BPF_SOCKHASH; map.lookup(); map.lookup_or_try_init(); map.delete(); map.update(); map.insert(); map.increment();
map.get_stackid(); map.perf_read(); map.call(); map.redirect_map(); map.push(); map.pop(); map.peek();
map.sock_hash_update(); map.msg_redirect_hash(); map.sk_redirect_hash(); Licensing; Rewriter; BPF; USDT;
attach_kprobe(); attach_kretprobe(); attach_tracepoint(); attach_uprobe(); attach_uretprobe(); USDT.enable_probe();
attach_raw_tracepoint(); attach_raw_socket(); attach_xdp(); XDP_FLAGS_UPDATE_IF_NOEXIST; XDP_FLAGS_SKB_MODE;
XDP_FLAGS_DRV_MODE; XDP_FLAGS_HW_MODE; attach_func(); detach_func(); detach_kprobe(); detach_kretprobe();
trace_print(); trace_fields(); perf_buffer_poll(); ring_buffer_poll(); ring_buffer_consume(); get_table();
open_perf_buffer(); items(); values(); clear(); items_lookup_and_delete_batch(); items_lookup_batch();
items_delete_batch(); items_update_batch(); print_log2_hist(); print_linear_hist(); open_ring_buffer(); push(); pop();
peek(); ksym(); ksymname(); sym(); num_open_kprobes(); get_syscall_fnname(); Invalid mem access;
Cannot call GPL only function from proprietary program; Kernel source directory; Kernel version overriding
"""
#: bpftrace's probe types, helpers, map functions and configuration.
BPFTRACE = """
begin/end test bench self hardware interval iter fentry/fexit kprobe/kretprobe profile rawtracepoint software tracepoint
uprobe/uretprobe usdt watchpoint args
assert assert_str bswap buf cat cgroup cgroup_path cgroupid clear comm config container_of cpid cpu curtask
default_str_length delete dw_ustack elapsed errorf exit fail find func getopt gid has_cpid has_key is_array is_err
is_integer is_literal is_ptr is_str is_unsigned_integer jiffies join kaddr kfunc_allowed kfunc_exist kptr kstack ksym
leader_comm leader_tid len macaddr memcmp ncpus nsecs ntop numaid offsetof override path pcomm percpu_kaddr pid ppid
print printf probe probetype pton rand reg retval signal signal_name signal_thread sizeof skboutput socket_cookie
static_assert str str_concat strcap strcontains strerror strftime strlen strncmp strstr syscall_name system tid time
typeof uaddr uid unwatch uptr usermode username ustack usym warnf write_user zero
avg count hist lhist max min stats sum tseries
cache_user_symbols cpp_demangle lazy_symbolication license log_size max_bpf_progs max_cat_bytes max_map_keys max_probes
max_strlen missing_probes on_stack_limit perf_rb_pages print_maps_on_exit show_debug_info stack_mode str_trunc_trailer
"""


def rows(page: str) -> list[list[str]]:
    """The cells of all tables of a page without their heads."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    found = [line for line, after in itertools.pairwise([*lines, ""])
             if line.startswith("| ") and not after.startswith("|---")]  # fmt: skip
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found]


def test_it_is_current() -> None:
    made = GEN.made()
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run scripts/gen_reference.py"
    assert {path.name for path in GEN.OUT.glob("*.md")} == {path.name for path in made}
    assert GEN.main(["--check"]) == 0


def test_a_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                 ) -> None:  # fmt: skip
    monkeypatch.setattr(GEN, "OUT", tmp_path)
    monkeypatch.setattr(GEN, "ROOT", tmp_path)
    monkeypatch.setattr(GEN, "made", lambda: {tmp_path / "maps.md": "new\n"})
    (tmp_path / "gone.md").write_text("old")
    assert GEN.main(["--check"]) == 1
    assert capsys.readouterr().err == "not current: maps.md, gone.md; run scripts/gen_reference.py\n"
    assert GEN.main([]) == 0 and GEN.main(["--check"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["maps.md"]
    assert GEN.main(["--wrong"]) == 2


@pytest.mark.parametrize("name", sorted(osmia.__all__))
def test_every_public_name_is_there(name: str) -> None:
    index = (GEN.OUT / "README.md").read_text(encoding="utf-8")
    if name == "__version__":
        assert f"osmia.{name}" in index
        return
    page = GEN.page_of(name, PUBLIC[name])
    anchor = GEN.anchor(name)
    assert f"[`{name}`]({page}.md#{anchor})" in index
    text = (GEN.OUT / f"{page}.md").read_text(encoding="utf-8")
    assert f"\n## {name}\n" in text if anchor == name.lower() else f"\n## {anchor.title()}\n" in text
    assert f"`{name}" in text


@pytest.mark.feature("B15 reference guide")
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_map_builtin_hook_and_template_has_an_example(name: str) -> None:
    item = PUBLIC[name]
    page = GEN.page_of(name, item)
    number = isinstance(item, int) or hasattr(item, "code")
    if page != "types" and not number:
        code = GEN.example_of(name, item)
        ast.parse(code)
        used = {node.id for node in ast.walk(ast.parse(GEN.with_imports(code))) if isinstance(node, ast.Name)}
        assert name in used or (name == "machine" and "machine" in code), f"{name}: no example, or not of it"
    if inspect.isclass(item) and issubclass(item, (MapBase, Hist)):
        assert page in ("maps", "histograms")
    if page == "hooks" and inspect.isfunction(item) and name not in ("first_of", "tail_program"):
        assert GEN.first_version(GEN.docstring(name, item)), f"{name}: since which kernel?"
    if not number and name != "run":
        assert len(GEN.prose(GEN.docstring(name, item))) > 15


def test_each_hook_has_its_section() -> None:
    found = {row[0]: row[1] for row in rows("reference/hooks.md")}
    assert found["[`tracepoint`](#tracepoint)"] == "`tracepoint/sched/sched_process_exec`"
    assert found["[`kprobe_multi`](#kprobe_multi)"] == "`kprobe.multi/vfs_*`"
    assert found["[`iterator`](#iterator)"].startswith("`iter/")
    hooks = {name for name, item in PUBLIC.items() if inspect.isfunction(item) and GEN.page_of(name, item) == "hooks"}
    assert {re.sub(r"\[`(\w+)`.*", r"\1", name) for name in found} == hooks - {"first_of", "tail_program"}


def test_what_kernel_code_may_take_from_python() -> None:
    known = {function.__name__ for function in calls._PYTHON} | {"print", "range"}
    assert set(GEN.PYTHON) == known


def test_every_environment_variable_is_there() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    page = (GEN.OUT / "environment.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\bOSMIA_[A-Z_]+\b", source))
    assert len(used) >= 5 and not {name for name in used if f"`{name}" not in page}


def test_versions_and_markup() -> None:
    assert GEN.first_version("Runs libc2.31, python3.11 and GLIBC_2.2.5; (BTF; 5.5), link since 6.6.") == "5.5"
    assert GEN.first_version("Nothing.\n\nExample::\n\n    x = 5.5") == ""
    assert GEN.prose("``a`` :func:`osmia.b`::\n\n    code()\n\nExample::\n\n    x") == (
        "`a` `b`:\n\n```python\ncode()\n```"
    )
    assert GEN.with_imports("@tracepoint('a:b')\ndef f(x):\n    Hash[u32, u64]").startswith(
        "from osmia import Hash, tracepoint, u32, u64\n\n@tracepoint"
    )


@pytest.mark.parametrize(("page", "names"), [
    ("coming-from-bcc.md", [" ".join(name.split()) for name in BCC.split(";")]),
    ("coming-from-bpftrace.md", [f"`{name}`" for name in BPFTRACE.split()]),
])  # fmt: skip
def test_newcomers_find_everything(page: str, names: list[str]) -> None:
    found = [row[0] for row in rows(page)]
    assert [name for name in names if name not in found] == []
    assert all(len(row) == 2 and row[1] for row in rows(page))


@pytest.mark.parametrize("page", ["coming-from-bcc.md", "coming-from-bpftrace.md"])
def test_what_newcomers_are_told_exists(page: str) -> None:
    """Whatever is called or subscripted in the second column is public, of Python, or of a module that is named."""
    known = set(osmia.__all__) | set(dir(builtins))
    looked_at = 0
    for row in rows(page):
        for code in re.findall(r"`([^`]+)`", row[1]):
            text = code + "\n    pass" if code.endswith(":") else code
            text = text + "\ndef f(): pass" if code.startswith("@") else text
            try:
                tree = ast.parse(textwrap.dedent(text))
            except SyntaxError:
                continue
            for node in ast.walk(tree):
                target = getattr(node, "func", None) or (node.value if isinstance(node, ast.Subscript) else None)
                if isinstance(target, ast.Name) and target.id not in ("m", "stacks", "steps", "syscall__"):
                    looked_at += 1
                    assert target.id in known, f"{code}: there is no {target.id}"
    assert looked_at > 40


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*GEN.OUT.glob("*.md"), DOCS / "coming-from-bcc.md", DOCS / "coming-from-bpftrace.md"]
    checked = 0
    for page in pages:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(((?:[\w./-]+\.md)?(?:#[\w-]+)?)\)", text):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            checked += 1
    assert checked > 100
