# SPDX-License-Identifier: Apache-2.0
"""Functions of user programs whose return is never probed.

A return probe replaces the return address on the stack with one of the
kernel's.  A function that keeps that address brings the program back there
when the kernel no longer expects it, and the kernel ends the program (SIGILL;
seen with ``_setjmp`` of glibc 2.36 on Linux 6.18).  One that looks at it finds
an address of no file: ``dlsym(RTLD_NEXT)`` found nothing there.  Their entries
may be probed.
"""

from __future__ import annotations

_KEEPS = "it keeps its return address for later (longjmp, setcontext), and the program would be killed on its way back"
_SWITCHES = "it leaves on another stack than it was called on, and the kernel would lose track of the program's returns"
_READS = "it looks for its caller by its return address, would find the kernel's, and answer wrongly"
_NEVER: dict[str, tuple[str, ...]] = {
    _KEEPS: ("setjmp", "_setjmp", "__sigsetjmp", "sigsetjmp", "__setjmp", "getcontext", "__getcontext"),
    _SWITCHES: ("swapcontext", "__swapcontext", "setcontext", "__setcontext", "makecontext", "__makecontext",
                "longjmp", "_longjmp", "siglongjmp", "__libc_longjmp", "__libc_siglongjmp", "__longjmp_chk",
                "__longjmp", "__start_context", "_Unwind_RaiseException", "_Unwind_Resume",
                "_Unwind_Resume_or_Rethrow", "_Unwind_ForcedUnwind"),
    _READS: ("dlsym", "dlvsym", "dlopen", "dlmopen", "_dl_runtime_resolve_fxsave", "_dl_runtime_resolve_xsave",
             "_dl_runtime_resolve_xsavec", "__tls_get_addr"),
}  # fmt: skip
_WHY = {name: why for why, names in _NEVER.items() for name in names}


def why(name: str) -> str:
    """Why the return of function ``name`` must not be probed; empty where nothing speaks against it."""
    return _WHY.get(name.partition("@")[0], "")


def listed() -> dict[str, tuple[str, ...]]:
    """The whole list: functions by the reason, for the documentation."""
    return dict(_NEVER)
