# SPDX-License-Identifier: Apache-2.0
"""Why a kernel function cannot be probed, said in words; what is taken instead of it; plans that fall back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kernel_code import running
from needs import needs, older_than
from patience import patient

from osmia.errors import CompileError, NotFound, NotPermitted, NotSupported, UserError
from osmia.kernel import btf_source, features, functions, kallsyms

pytestmark = [pytest.mark.kernel]

HEAD = """
me = option("-p", type=int)
n = Array[u64](16)
"""


def refusal(text: str, prog: str = "probe", **options: Any) -> UserError:
    with pytest.raises(UserError) as caught, running(HEAD + text) as it:
        it.attach(prog, **options)
    return caught.value


@pytest.mark.feature("P2 a refusal names the alternative")
def test_refusals_say_why() -> None:
    needs("kprobe")
    empty = "def probe():\n    n[0] += 1\n"
    err = refusal('@kprobe("vfs_raed")\n' + empty)
    assert isinstance(err, NotFound) and "vfs_read" in err.fix
    err = refusal('@kprobe("sys_openat")\n' + empty)
    assert isinstance(err, NotFound) and err.fix == "use the tracepoint syscalls:sys_enter_openat"
    # CONFIG_KALLSYMS_ALL lists variables.
    err = refusal('@kprobe("init_task")\n' + empty)
    assert isinstance(err, NotFound) and ("a variable of the kernel" in err.what or "no function" in err.what)
    err = refusal('@kprobe_multi("vfz_*")\n' + empty)
    assert isinstance(err, NotFound) and "matches vfz_*" in err.what
    err = refusal('@kretprobe("get_kprobe")\n' + empty)
    assert isinstance(err, NotSupported)
    if functions.forbidden() is not None:
        assert "the kernel forbids probes in get_kprobe" in err.what and err.fix
    with pytest.raises(TypeError, match="only a kprobe may be inside"), running('@fentry("vfs_read+4")\n' + empty):
        pass


@pytest.mark.feature("P2 a refusal names the alternative")
def test_refusals_of_the_compiler() -> None:
    if not features.has("btf"):
        pytest.skip("no BTF")

    def refused(text: str) -> CompileError | NotFound:
        with pytest.raises((CompileError, NotFound)) as caught, running(HEAD + text):
            pass
        return caught.value

    err = refused('@kretprobe("vfs_read")\ndef probe(file, ret):\n    n[0] += ret\n')
    assert "the arguments are gone" in err.what and err.fix == 'fexit("vfs_read") has both'
    err = refused('@kprobe("vfs_read")\ndef probe(file, ret):\n    n[0] += 1\n')
    assert "before the function has returned" in err.what and "kretprobe" in err.fix
    err = refused('@kprobe("vfs_read")\ndef probe(count):\n    n[0] += count\n')
    assert "count is not argument 1 of vfs_read(file, buf, count, pos)" in err.what and "by position" in err.fix
    err = refused('@kprobe("vfs_read")\ndef probe(a, b, c, d, e):\n    n[0] += e\n')
    assert "has 4 arguments, not 5" in err.what
    err = refused('@fentry("vfs_raed")\ndef probe():\n    n[0] += 1\n')
    assert isinstance(err, NotFound) and "vfs_read" in err.fix
    err = refused('@kprobe("no_such_function")\ndef probe(a):\n    n[0] += a\n')
    assert isinstance(err, NotFound) and 'Kernel["struct file"]' in err.fix
    err = refused('@fexit("vfs_read")\ndef probe(ret, file):\n    n[0] += ret\n')
    assert "ret comes after the arguments" in err.what
    err = refused('@fentry("vfs_read")\ndef probe(file):\n    return 1\n')
    assert "nobody looks at what an fentry program returns" in err.what
    err = refused('@lsm("file_opem")\ndef probe(file):\n    return 0\n')
    assert isinstance(err, NotFound) and "file_open" in err.fix


def test_what_the_compiler_made_of_a_function() -> None:
    """`f.isra.0` instead of f: taken where BTF proves the arguments, else refused with the reason."""
    needs("kprobe")
    known = [one.name for one in kallsyms.code() if not one.module]
    plain = {name for name in known if "." not in name}
    whole: dict[str, list[str]] = {}
    for made in known:
        if "." in made and made.partition(".")[0] not in plain:
            whole.setdefault(made.partition(".")[0], []).append(made)
    alone = [name for name, made in whole.items()
             if len(made) == 1 and (".isra." in made[0] or ".constprop." in made[0])]  # fmt: skip
    assert alone
    proven = [name for name in alone[:100] if btf_source.type_id(name, 12)]
    unproven = [name for name in alone[:100] if name not in proven]
    for name in unproven[:1]:
        err = refusal(f'@kprobe("{name}")\ndef probe():\n    n[0] += 1\n')
        assert isinstance(err, NotFound) and f"the compiler made {whole[name][0]} of it" in err.what and err.fix
    taken = ""
    for name in proven[:20]:
        with running(HEAD + f'@kprobe("{name}")\ndef probe():\n    n[0] += 1\n') as it:
            try:
                link = it.attach("probe")
            except NotSupported:
                continue
            assert f"as {whole[name][0]}: BTF shows that its arguments are in place" in link.how
            taken = name
            break
    assert taken or unproven


def test_a_name_that_several_functions_share() -> None:
    """All of them are probed; a hook that is bound by type refuses."""
    needs("kprobe")
    banned = functions.forbidden() or frozenset()
    listed = functions.traceable() or []
    times: dict[str, int] = {}
    for one in listed:
        times[one.name] = times.get(one.name, 0) + 1
    for name in sorted(functions.repeated()):
        places = [one for one in kallsyms.find(name)[0] if not one.module]
        if name in banned or "." in name or times.get(name) != len(places) or len(places) < 2:
            continue
        with running(HEAD + f'@kprobe("{name}")\ndef probe():\n    n[0] += 1\n') as it:
            try:
                link = it.attach("probe")
            except NotSupported:
                continue
            assert f"{len(places)} functions are called {name}: all of them are probed" in link.how
            assert len(link.fds) in (len(places), 2 * len(places))
            break
    else:
        pytest.fail("no name to try")


def test_names_of_what_shares_a_name_are_remembered() -> None:
    needs("kprobe")
    first = functions.repeated()
    assert "vfs_read" not in first and len(first) > 50
    functions._repeated = None
    assert functions.repeated() == first


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_plans_fall_back(tmp_path: Path) -> None:
    """The first hook of a plan that works is taken, on any kernel, and -v says why the others were not."""
    script = tmp_path / "plan.py"
    script.write_text('''from osmia import *
n = Array[u64](1)

@first_of(fentry("no_such_function_at_all"), kprobe("no_such_function_either"),
          tracepoint("syscalls:sys_enter_getpgid"))
def probe():
    n[0] += 1

run()
''')
    command = [sys.executable, str(script), "-v", "-d", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60.0), check=True)
    out = done.stderr
    assert "probe: attached to tracepoint:syscalls:sys_enter_getpgid" in out
    assert "not fentry:no_such_function_at_all" in out
    kprobe = "kprobe:no_such_function_either"
    assert f"{kprobe} does not do" in out or f"not {kprobe}: this kernel does not offer it" in out


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_plans_fall_back_after_the_verifier(tmp_path: Path) -> None:
    """do_mmap() has more arguments than fentry passes on before 6.6: the kprobe of the plan is taken."""
    needs("kprobe")
    script = tmp_path / "many.py"
    script.write_text('''from osmia import *
n = Array[u64](1)

@first_of(fentry("do_mmap"), kprobe("do_mmap"))
def probe(file, address, length):
    n[0] += length

run()
''')
    command = [sys.executable, str(script), "-v", "-d", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60.0), check=True)
    if "attached to fentry:do_mmap" not in done.stderr:
        assert older_than("6.6") or not features.has("fentry")
        assert "fentry:do_mmap does not do" in done.stderr and "attached to kprobe:do_mmap" in done.stderr


def test_locked_function_tracing_is_explained() -> None:
    """On a machine where a security module locks function tracing, fentry says so and not just EPERM."""
    if features.has("fentry") is not None:
        pytest.skip("function tracing is not locked here")
    with pytest.raises(NotPermitted, match="function tracing is locked"), running(HEAD + """
@fentry("vfs_read")
def probe(file):
    n[0] += 1
"""):
        pass
