# SPDX-License-Identifier: Apache-2.0
"""From LLVM IR text to a BPF object file, in a child process.

LLVM answers an error of the program (too much stack, an operation that BPF
lacks) with ``exit(1)`` or ``abort()``, which no ``except`` can catch, and its
BPF passes keep state from one compilation to the next.  So every compilation
runs in a forked child: the parent never loads the 178 MB library, and
whatever happens to the child comes back as one :class:`BackendError`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # signal itself brings enum and functools along, 4 ms of a cold start
import os
import select
import sys
import time

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds after which a compilation is given up.
TIMEOUT = 60.0

_OK, _FAILED, _NO_LLVM = 0, 3, 4


class BackendError(UserError):
    """LLVM could not compile the program; ``stderr`` holds what it printed."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", stderr: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.stderr = stderr


class Compiler:
    """A child process with LLVM in it, started ahead of the text that it is to compile.

    Loading the library takes a tenth of a compilation, and the child does it
    while the front end is at work.  Use :meth:`finish` or :meth:`abandon`,
    one of them, once.
    """

    def __init__(self, as_object: bool = True, work: Callable[[str, bool], bytes] | None = None) -> None:
        from osmia.compiler import llvm

        settle()
        run, ahead = work or llvm.translate, llvm.prepare if work is None else _nothing
        sys.stdout.flush()
        sys.stderr.flush()
        self._noise = _scratch()
        self._reader, writer = os.pipe()
        source, self._source = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._source)
            _child(run, ahead, source, as_object, writer, self._noise)
        os.close(writer)
        os.close(source)

    def finish(self, ir: str, timeout: float = TIMEOUT, meanwhile: Callable[[], None] | None = None) -> bytes:
        """Compile ``ir``; see :func:`compile_ir`.  ``meanwhile`` is called while the child works."""
        try:
            _send(self._source, ir.encode("utf-8", "surrogateescape"))
            self._source = -1
            if meanwhile is not None:
                meanwhile()
            data, timed_out = _read_all(self._reader, timeout)
            if timed_out:
                raise BackendError(
                    f"the compiler did not finish in {timeout:g} seconds", fix="make the program smaller"
                )
            if data:  # all of it: what is left of the child's life is to give back its memory, which takes 3 ms
                _ending.append(self._pid)
                self._pid = -1
                return data
            status = os.waitpid(self._pid, 0)[1]
            self._pid = -1
            text = os.pread(self._noise, 1 << 16, 0).decode("utf-8", "replace")
        finally:
            self.abandon()
        settle()
        raise _explain(status, text)

    def abandon(self) -> None:
        """End the child, if it still runs, and let go of what belongs to it."""
        if self._pid > 0:
            os.kill(self._pid, _signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = -1
        for name in ("_reader", "_source", "_noise"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
            setattr(self, name, -1)


#: Children that have delivered and not been waited for.
_ending: list[int] = []


def settle() -> None:
    """Wait for the children that have delivered what they were started for."""
    while _ending:
        os.waitpid(_ending.pop(), 0)


def _nothing() -> None:
    pass


def _send(fd: int, data: bytes) -> None:
    """Write all of ``data`` and close; a child that died meanwhile is noticed later."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


def compile_ir(ir: str) -> bytes:
    """Compile LLVM IR text to a relocatable BPF ELF object.

    Raises :class:`BackendError` when LLVM refuses the program, dies or hangs,
    and :class:`~osmia.errors.UserError` when llvmlite is not installed.
    """
    try:
        return Compiler().finish(ir)
    finally:
        settle()


def assembly(ir: str) -> str:
    """The BPF assembly that ``ir`` compiles to; raises as :func:`compile_ir` does."""
    try:
        return Compiler(as_object=False).finish(ir).decode("utf-8", "replace")
    finally:
        settle()


def _scratch() -> int:
    """A file without a name for what LLVM prints."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("osmia-llvm", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as f:
        return os.dup(f.fileno())


def _child(
    run: Callable[[str, bool], bytes], ahead: Callable[[], None], source: int, as_object: bool, writer: int, noise: int
) -> None:
    """The child's whole life; never returns."""
    code = _FAILED
    try:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(noise, 1)
        os.dup2(noise, 2)
        faults = sys.modules.get("faulthandler")
        if faults is not None:
            faults.disable()  # it would print a Python traceback when LLVM aborts
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ahead()
        with open(source, encoding="utf-8", errors="surrogateescape") as text:
            ir = text.read()
        made = run(ir, as_object)
        data = memoryview(len(made).to_bytes(8, "little") + made)
        while data:
            data = data[os.write(writer, data) :]
        code = _OK
    except ImportError as e:
        os.write(2, str(e).encode())
        code = _NO_LLVM
    except RuntimeError as e:  # the text is not valid IR
        os.write(2, str(e).encode())
    except BaseException as e:
        os.write(2, f"{type(e).__name__}: {e}".encode())
    finally:
        os._exit(code)


def _read_all(fd: int, timeout: float) -> tuple[bytes, bool]:
    """What the child sent, empty if it did not send all of it, and whether the time ran out before."""
    sent = bytearray()
    end = time.monotonic() + timeout
    while len(sent) < 8 or len(sent) < 8 + int.from_bytes(sent[:8], "little"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return b"", True
        part = os.read(fd, 1 << 16)
        if not part:
            return b"", False
        sent += part
    return bytes(sent[8:]), False


# What LLVM says, what it means for the author of a kernel function, and what
# to do.  The first entry whose pattern occurs in LLVM's output wins; {} is the
# function that the message names.
_KNOWN = (
    (
        "stack limit",
        "{} uses more than 512 bytes of stack",
        "keep large structures and strings in a map or in the event, not in local variables",
    ),
    ("unsupported signed division", "{} divides signed values, which BPF cannot", "divide unsigned values"),
    ("A call to built-in function", "{} needs an operation that BPF lacks", "use integers of at most 64 bits"),
    ("unsupported atomic operation", "{} changes a value of 8 or 16 bits atomically", "use one of 32 or 64 bits"),
    ("changed binding to", "{} has the name of its section", "rename the function"),
    ("out of memory", "the compiler ran out of memory", "make the program smaller"),
    ("MemoryError", "the compiler ran out of memory", "make the program smaller"),
    ("bad_alloc", "the compiler ran out of memory", "make the program smaller"),
)
_REPORT = "simplify the function, and please report this as a defect of osmia"


def _explain(status: int, text: str) -> UserError:
    """The error to raise for a child's wait ``status`` and its output ``text``."""
    text = text.strip()
    code = os.waitstatus_to_exitcode(status)
    if code == _NO_LLVM:
        return UserError(
            "compiling needs llvmlite, which is not installed" + (f" ({text})" if text else ""),
            fix="run: pip install 'osmia[compiler]'",
        )
    where, function = _place(text)
    for pattern, what, fix in _KNOWN:
        if pattern in text:
            return BackendError(what.format(function or "a function"), where=where, fix=fix, stderr=text)
    if code == -_signal.SIGKILL:
        return BackendError("the compiler was killed", fix="see whether memory ran out", stderr=text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    detail = next((line for line in lines if "error:" in line.lower()), lines[0] if lines else "no message")[:200]
    if code < 0:
        return BackendError(f"the compiler died of {_signal_name(-code)} ({detail})", fix=_REPORT, stderr=text)
    return BackendError(f"the compiler rejected the program ({detail})", fix=_REPORT, stderr=text)


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _place(text: str) -> tuple[str, str]:
    """``file:line:column`` and the function that an LLVM diagnostic names; each may be empty."""
    for line in text.splitlines():
        if line.startswith("error: "):
            where, _, rest = line[7:].partition(": ")
            name = rest.partition("in function ")[2].partition(" ")[0]
            return ("" if where.startswith("<unknown>") or ":" not in where else where), name
    return "", ""
