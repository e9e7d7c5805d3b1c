# SPDX-License-Identifier: Apache-2.0
"""A test says which feature of the kernel it needs; a skip has to be proven.

``needs("kprobe_multi", since="5.18")`` skips only where the kernel itself
says that it lacks the feature *and* is older than the feature's first
version: on a newer kernel the same answer is a failure.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from osmia.kernel import features, tracefs

#: Kernels that lack a feature for another reason than their age: (feature, what shows it, the reason).
_BUILT_WITHOUT: list[tuple[str, Callable[[], bool], str]] = [
    (name, lambda: not os.path.exists("/sys/bus/event_source/devices/kprobe/type"), "a kernel without kprobes")
    for name in ("kprobe", "kprobe_multi")
]
_BUILT_WITHOUT.append(("kprobe_multi", lambda: not _has_symbol(" register_fprobe\n"), "built without CONFIG_FPROBE"))
_BUILT_WITHOUT.append(("module_btf", lambda: not os.path.exists("/proc/modules"), "a kernel without modules"))
_BUILT_WITHOUT.append(("fentry", lambda: _function_tracing_locked(), "function tracing is locked on this machine"))


def _has_symbol(line_end: str) -> bool:
    with open("/proc/kallsyms", encoding="ascii", errors="replace") as stream:
        return line_end in stream.read()


def _function_tracing_locked() -> bool:
    """Whether even the list of functions is refused to root (a security module's rule)."""
    try:
        with open("/sys/kernel/tracing/available_filter_functions", "rb", buffering=0) as stream:
            return not stream.read(1)
    except OSError:
        return True


def version() -> tuple[int, int]:
    """The running kernel's major and minor number."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found
    return int(found[1]), int(found[2])


def older_than(since: str) -> bool:
    major, minor = since.split(".")[:2]
    return version() < (int(major), int(minor))


def needs(name: str, since: str = "") -> None:
    """Skip the calling test if this kernel lacks ``name`` (a key of ``features.PROBES``) and is older than ``since``.

    Fails if the feature is missing although the kernel is not older.
    ``since`` defaults to what the probe's table says.
    """
    since = since or features.PROBES[name][1]
    answer = features.has(name)
    if answer:
        return
    if answer is False and older_than(since):
        pytest.skip(f"{name} since {since}, this is {os.uname().release}")
    for built, shows, why in _BUILT_WITHOUT:
        if built == name and shows():
            pytest.skip(f"{name}: {why}")
    pytest.fail(f"{name} exists since {since}, but on {os.uname().release} the probe says {answer}")


def needing(name: str, since: str = "") -> Any:
    """The same as a decorator (a mark that runs :func:`needs` as a fixture does)."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        import functools

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            needs(name, since)
            return function(*args, **kwargs)

        return run

    return wrap


def only_on(machine: str, why: str) -> pytest.MarkDecorator:
    """A mark for what exists for one kind of machine only (a name as ``uname -m`` gives it)."""
    here = os.uname().machine
    return pytest.mark.skipif(here != machine, reason=f"{why}; this is {here}")


def needs_tracepoint(name: str, since: str) -> None:
    """Skip if this kernel lacks the tracepoint ``category:event`` and is older than ``since``; fail if it is not."""
    if tracefs.exists(*name.split(":")):
        return
    if older_than(since):
        pytest.skip(f"{name} since {since}, this is {os.uname().release}")
    pytest.fail(f"this kernel is not older than {since}, but has no tracepoint {name}")


def built(option: str, module: str) -> bool:
    """Whether the kernel was built with ``CONFIG_option``, into itself or as a module that is on this machine.

    What a kernel's configuration is it says itself, or the distribution in /boot; where neither does, a module that is
    there still shows it.
    """
    release = os.uname().release
    text = ""
    for path, opener in (("/proc/config.gz", gzip.open), (f"/boot/config-{release}", open)):
        with suppress(OSError), opener(path, "rt", encoding="ascii", errors="replace") as file:
            text = text or file.read()
    if f"CONFIG_{option}=y\n" in text:
        return True
    modules = ""
    with suppress(OSError), open(f"/lib/modules/{release}/modules.dep", encoding="ascii") as file:
        modules = file.read()
    return f"/{module}.ko" in modules


def skip_unbuilt(option: str, module: str, what: str) -> None:
    """Skip because ``what`` is missing; fail if the kernel was built with it."""
    if built(option, module):
        pytest.fail(f"{what}, but the kernel was built with CONFIG_{option}, or has the module {module}")
    pytest.skip(what)
