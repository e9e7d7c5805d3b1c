# SPDX-License-Identifier: Apache-2.0
"""bpf(2): one function per command, and nothing else.

Names are the kernel's (``BPF_MAP_CREATE`` is :func:`map_create`).  A failing
command raises :class:`OSError` whose ``filename`` is the command's name, so
that the message says which call failed.  All commands pass through one
door that :func:`override` replaces, so that errno paths are tested with no
kernel.  Layouts: ``union bpf_attr`` in ``include/uapi/linux/bpf.h``; the
kernel accepts a longer attr than it knows as long as the rest is zero
(otherwise E2BIG), so one layout serves every version.
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.kernel.door import NR_BPF, address, syscall
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
#: Kernel-internal errno that leaks out of bpf(2); Python's errno module does not know it.
ENOTSUPP = 524

_ELEM = struct.Struct("<IIQQQ")
_RETRIES = 5


def _kernel(command: int, attr: bytearray) -> int:
    if not NR_BPF:
        return -errno.ENOSYS
    return syscall(NR_BPF, command, address(attr), len(attr))


_door: Callable[[int, bytearray], int] = _kernel


class override:
    """Replaces the kernel within a ``with`` block (tests).

    ``fake(command, attr)`` gets the command number and the attr bytes, which
    it may write to as the kernel would, and returns the result or ``-errno``.
    """

    def __init__(self, fake: Callable[[int, bytearray], int]) -> None:
        self._fake = fake

    def __enter__(self) -> None:
        global _door
        self._before = _door
        _door = self._fake

    def __exit__(self, *exc: object) -> None:
        global _door
        _door = self._before


def _call(command: str, attr: bytearray) -> int:
    number: int = getattr(consts, command)
    # EINTR always, EAGAIN a few times: the verifier gives up with EAGAIN when a signal is pending.
    for _ in range(_RETRIES):
        result = _door(number, attr)
        if result >= 0:
            return result
        if result not in (-errno.EINTR, -errno.EAGAIN):
            break
    if result == -errno.EPERM and command in ("BPF_MAP_CREATE", "BPF_PROG_LOAD") and _raise_memlock():
        result = _door(number, attr)
        if result >= 0:
            return result
    text = "Operation not supported by this kernel" if result == -ENOTSUPP else os.strerror(-result)
    raise OSError(-result, text, command)


def _raise_memlock() -> bool:
    """Lift RLIMIT_MEMLOCK, which maps and programs counted against before 5.11; whether that changed anything."""
    import resource

    limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if resource.getrlimit(resource.RLIMIT_MEMLOCK) == limit:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limit)
    except (OSError, ValueError):
        return False
    return True


def _name(name: str) -> bytes:
    """A kernel object name: at most 15 characters out of [A-Za-z0-9_.]."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name[:15]).encode()


# --- maps ---------------------------------------------------------------------------------------------------------


def map_create(
    type: int, key_size: int, value_size: int, max_entries: int, *, name: str = "", flags: int = 0, inner_fd: int = 0,
    numa_node: int = 0, btf_fd: int = 0, key_tid: int = 0, value_tid: int = 0, extra: int = 0,
) -> int:  # fmt: skip
    """Create a map; the new fd.  Sizes in bytes."""
    if not btf_fd:  # type ids without a BTF are EINVAL
        key_tid = value_tid = 0
    return _call("BPF_MAP_CREATE", bytearray(struct.pack(
        "<7I16s5IQ", type, key_size, value_size, max_entries, flags, inner_fd, numa_node, _name(name),
        0, btf_fd, key_tid, value_tid, 0, extra,
    )))  # fmt: skip


def map_lookup(fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """The value of ``key`` as bytes; None when absent.  ``value_size`` as user space sees it (all CPUs)."""
    return _lookup("BPF_MAP_LOOKUP_ELEM", fd, key, value_size, flags)


def map_lookup_and_delete(fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """Take a value out.  Queues and stacks since 4.20 (empty key), hash maps since 5.14."""
    return _lookup("BPF_MAP_LOOKUP_AND_DELETE_ELEM", fd, key, value_size, flags)


def _lookup(command: str, fd: int, key: bytes, value_size: int, flags: int) -> bytes | None:
    value = bytearray(value_size)
    attr = bytearray(_ELEM.pack(fd, 0, address(key), address(value), flags))
    try:
        _call(command, attr)
    except FileNotFoundError:
        return None
    return bytes(value)


def map_contains(fd: int, value: bytes) -> bool:
    """Whether a bloom filter may hold ``value``.  Since 5.16."""
    buffer = bytearray(value)
    try:
        _call("BPF_MAP_LOOKUP_ELEM", bytearray(_ELEM.pack(fd, 0, 0, address(buffer), 0)))
    except FileNotFoundError:
        return False
    return True


def map_update(fd: int, key: bytes, value: bytes | bytearray, flags: int = BPF_ANY) -> None:
    """Set a value.  E2BIG: the map is full; EEXIST/ENOENT with BPF_NOEXIST/BPF_EXIST."""
    _call("BPF_MAP_UPDATE_ELEM", bytearray(_ELEM.pack(fd, 0, address(key), address(value), flags)))


def map_delete(fd: int, key: bytes) -> bool:
    """Remove a key; False when it was not there."""
    try:
        _call("BPF_MAP_DELETE_ELEM", bytearray(_ELEM.pack(fd, 0, address(key), 0, 0)))
    except FileNotFoundError:
        return False
    return True


def map_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key after ``key`` (None: the first); None at the end."""
    following = bytearray(key_size)
    try:
        _call("BPF_MAP_GET_NEXT_KEY", bytearray(_ELEM.pack(fd, 0, address(key or b""), address(following), 0)))
    except FileNotFoundError:
        return None
    return bytes(following)


def map_lookup_batch(
    fd: int, position: bytearray | None, count: int, key_size: int, value_size: int
) -> tuple[bytearray, bytearray, int, bytearray | None]:
    """Up to ``count`` elements from ``position`` (None: the start).

    Returns ``(keys, values, n, next position)``; the position is None at the
    end.  ENOSPC: one hash bucket holds more than ``count``.  Hash maps since
    5.6, per-CPU hashes 5.6, arrays 5.6, per-CPU arrays 5.13.
    """
    return _batch("BPF_MAP_LOOKUP_BATCH", fd, position, count, key_size, value_size)


def map_lookup_and_delete_batch(
    fd: int, position: bytearray | None, count: int, key_size: int, value_size: int
) -> tuple[bytearray, bytearray, int, bytearray | None]:
    """As :func:`map_lookup_batch`, and removes what it returns; each element exactly once.  Hash maps since 5.6."""
    return _batch("BPF_MAP_LOOKUP_AND_DELETE_BATCH", fd, position, count, key_size, value_size)


def _batch(
    command: str, fd: int, position: bytearray | None, count: int, key_size: int, value_size: int
) -> tuple[bytearray, bytearray, int, bytearray | None]:
    keys, values = bytearray(count * key_size), bytearray(count * value_size)
    after = bytearray(max(8, key_size))  # hash maps keep a 4-byte bucket number here, others a key
    attr = bytearray(struct.pack(
        "<QQQQIIQQ", address(position or b""), address(after), address(keys), address(values), count, fd, 0, 0,
    ))  # fmt: skip
    end = False
    try:
        _call(command, attr)
    except FileNotFoundError:
        end = True
    return keys, values, _count(attr), None if end else after


def _count(attr: bytearray) -> int:
    """How many elements a batch command handled: the kernel overwrites ``count``."""
    done: int = struct.unpack_from("<I", attr, 32)[0]
    return done


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int, flags: int = BPF_ANY) -> int:
    """Set ``count`` elements; how many were set (fewer only with an error raised).  Since 5.6."""
    attr = bytearray(struct.pack("<QQQQIIQQ", 0, 0, address(keys), address(values), count, fd, flags, 0))
    _call("BPF_MAP_UPDATE_BATCH", attr)
    return _count(attr)


def map_delete_batch(fd: int, keys: bytes, count: int) -> int:
    """Remove ``count`` keys; how many were removed before the first absent one.  Since 5.6."""
    attr = bytearray(struct.pack("<QQQQIIQQ", 0, 0, address(keys), 0, count, fd, 0, 0))
    try:
        _call("BPF_MAP_DELETE_BATCH", attr)
    except FileNotFoundError:
        return _count(attr)
    return _count(attr)


def map_freeze(fd: int) -> None:
    """No more writes from user space: the verifier may then treat the contents as constants.  Since 5.2."""
    _call("BPF_MAP_FREEZE", bytearray(struct.pack("<I4x", fd)))


# --- programs and BTF ---------------------------------------------------------------------------------------------


def prog_load(
    type: int, insns: bytes | bytearray, license: str, *, name: str = "", flags: int = 0, attach_type: int = 0,
    btf_fd: int = 0, func_info: bytes = b"", line_info: bytes = b"", core_relos: bytes = b"", attach_btf_id: int = 0,
    attach_fd: int = 0, log: bytearray | None = None, log_level: int = 1,
) -> int:  # fmt: skip
    """Verify and load a program; the new fd.

    ``func_info``, ``line_info`` and ``core_relos`` are the kernel's records
    (8, 16 and 16 bytes each).  With ``log`` the verifier writes its
    NUL-terminated text there; ENOSPC: it did not fit.  Kernel-side CO-RE
    since 5.17 (E2BIG before); it needs func_info or line_info as well.
    """
    text = license.encode() + b"\0"
    attr = bytearray(struct.pack(
        "<IIQQIIQII16sIIIIQIIQIIIIQQII", type, len(insns) // 8, address(insns), address(text),
        log_level if log is not None else 0, len(log) if log is not None else 0,
        address(log) if log is not None else 0, 0, flags, _name(name), 0, attach_type, btf_fd,
        8 if func_info else 0, address(func_info), len(func_info) // 8,
        16 if line_info else 0, address(line_info), len(line_info) // 16, attach_btf_id, attach_fd,
        len(core_relos) // 16, 0, address(core_relos), 16 if core_relos else 0, 0,
    ))  # fmt: skip
    return _call("BPF_PROG_LOAD", attr)


def btf_load(data: bytes | bytearray, log: bytearray | None = None) -> int:
    """Load BTF; the new fd."""
    size = len(log) if log is not None else 0
    where = address(log) if log is not None else 0
    attr = struct.pack("<QQIIII", address(data), where, len(data), size, int(size > 0), 0)
    return _call("BPF_BTF_LOAD", bytearray(attr))


def prog_test_run(
    fd: int, *, ctx: bytes = b"", data: bytes = b"", data_out: int = 0, repeat: int = 0, flags: int = 0, cpu: int = 0
) -> tuple[int, bytes, bytes, int]:
    """Run a program once (or ``repeat`` times): ``(return value, ctx out, data out, ns per run)``.

    ENOTSUPP: that program type cannot be run so (tracepoint, kprobe).
    """
    ctx_out, out = bytearray(len(ctx)), bytearray(data_out)
    # raw_tp refuses an out-ctx, syscall writes into ctx_in: so the in-buffer is ours to be written to.
    ctx_in = bytearray(ctx)
    attr = bytearray(struct.pack(
        "<IIIIQQIIIIQQIII4x", fd, 0, len(data), data_out, address(data), address(out), repeat, 0,
        len(ctx), 0, address(ctx_in), 0, flags, cpu, 0,
    ))  # fmt: skip
    if data:  # skb and xdp programs hand their ctx back through ctx_out
        struct.pack_into("<I", attr, 44, len(ctx))
        struct.pack_into("<Q", attr, 56, address(ctx_out))
    _call("BPF_PROG_TEST_RUN", attr)
    retval, _, size_out = struct.unpack_from("<III", attr, 4)
    duration: int = struct.unpack_from("<I", attr, 36)[0]
    return retval, bytes(ctx_out if data else ctx_in), bytes(out[:size_out]), duration


# --- links --------------------------------------------------------------------------------------------------------


def raw_tracepoint_open(prog_fd: int, name: str = "") -> int:
    """Attach a raw tracepoint program by name, or a tracing program (``name`` empty); the link fd."""
    text = name.encode() + b"\0" if name else b""
    return _call("BPF_RAW_TRACEPOINT_OPEN", bytearray(struct.pack("<QIIQ", address(text), prog_fd, 0, 0)))


def link_create(prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, tail: bytes = b"") -> int:
    """Create a link; ``tail`` is the part of the attr union that the attach type defines (from byte 16)."""
    attr = struct.pack("<IIII", prog_fd, target_fd, attach_type, flags) + tail.ljust(48, b"\0")
    return _call("BPF_LINK_CREATE", bytearray(attr))


def iter_create(link_fd: int) -> int:
    """A readable fd that runs an iterator link once.  Since 5.8."""
    return _call("BPF_ITER_CREATE", bytearray(struct.pack("<II", link_fd, 0)))


# --- looking at what is there -------------------------------------------------------------------------------------


def obj_get_info(fd: int, size: int = 256, start: bytes = b"") -> bytes:
    """``struct bpf_{prog,map,link,btf}_info`` of an fd, cut to what the kernel wrote.

    ``start`` preloads the buffer, for infos that read addresses from it.
    """
    info = bytearray(start.ljust(size, b"\0"))
    attr = bytearray(struct.pack("<IIQ", fd, size, address(info)))
    _call("BPF_OBJ_GET_INFO_BY_FD", attr)
    return bytes(info[: struct.unpack_from("<I", attr, 4)[0]])


def _next_id(command: str, after: int) -> int:
    attr = bytearray(struct.pack("<III4x", after, 0, 0))
    try:
        _call(command, attr)
    except FileNotFoundError:
        return 0
    following: int = struct.unpack_from("<I", attr, 4)[0]
    return following


def prog_get_next_id(after: int) -> int:
    """The smallest program id above ``after``; 0 at the end."""
    return _next_id("BPF_PROG_GET_NEXT_ID", after)


def map_get_next_id(after: int) -> int:
    """The smallest map id above ``after``; 0 at the end."""
    return _next_id("BPF_MAP_GET_NEXT_ID", after)


def link_get_next_id(after: int) -> int:
    """The smallest link id above ``after``; 0 at the end.  Since 5.8."""
    return _next_id("BPF_LINK_GET_NEXT_ID", after)


def btf_get_next_id(after: int) -> int:
    """The smallest BTF id above ``after``; 0 at the end."""
    return _next_id("BPF_BTF_GET_NEXT_ID", after)


def prog_get_fd_by_id(id: int) -> int:
    """An fd of program ``id``; FileNotFoundError when it is gone."""
    return _call("BPF_PROG_GET_FD_BY_ID", bytearray(struct.pack("<III4x", id, 0, 0)))


def map_get_fd_by_id(id: int) -> int:
    """An fd of map ``id``; FileNotFoundError when it is gone."""
    return _call("BPF_MAP_GET_FD_BY_ID", bytearray(struct.pack("<III4x", id, 0, 0)))


def link_get_fd_by_id(id: int) -> int:
    """An fd of link ``id``; FileNotFoundError when it is gone."""
    return _call("BPF_LINK_GET_FD_BY_ID", bytearray(struct.pack("<III4x", id, 0, 0)))


def btf_get_fd_by_id(id: int) -> int:
    """An fd of BTF object ``id``; FileNotFoundError when it is gone."""
    return _call("BPF_BTF_GET_FD_BY_ID", bytearray(struct.pack("<III4x", id, 0, 0)))


def task_fd_query(pid: int, fd: int) -> tuple[int, int, str, int, int]:
    """What program is behind a perf event of process ``pid``: ``(program id, kind, name, offset, address)``.

    Kinds are ``BPF_FD_TYPE_*``: 0 raw tracepoint, 1 tracepoint, 2 and 3 kernel function and its return, 4 and 5
    user function and its return.  FileNotFoundError, or ENOTSUP, where there is none.  Since 4.18.
    """
    name = bytearray(512)
    attr = bytearray(struct.pack("<IIIIQIIQQ", pid, fd, 0, len(name), address(name), 0, 0, 0, 0))
    _call("BPF_TASK_FD_QUERY", attr)
    id, kind, offset, place = struct.unpack_from("<IIQQ", attr, 24)
    return id, kind, bytes(name).split(b"\0")[0].decode("utf-8", "replace"), offset, place


def enable_stats() -> int:
    """Count run time and runs of every BPF program while the returned fd is open.  Since 5.8."""
    return _call("BPF_ENABLE_STATS", bytearray(struct.pack("<I4x", 0)))


def obj_pin(path: str, fd: int) -> None:
    """Pin an object in bpffs."""
    text = os.fsencode(path) + b"\0"
    _call("BPF_OBJ_PIN", bytearray(struct.pack("<QIII4x", address(text), fd, 0, 0)))


def obj_get(path: str) -> int:
    """An fd of a pinned object."""
    text = os.fsencode(path) + b"\0"
    return _call("BPF_OBJ_GET", bytearray(struct.pack("<QIII4x", address(text), 0, 0, 0)))


# --- shared memory ------------------------------------------------------------------------------------------------


def map_memory(fd: int, length: int, offset: int = 0, *, writable: bool = False) -> mmap.mmap:
    """Share a map's (or a perf event's) pages with the kernel: read-only unless ``writable``."""
    import mmap

    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=access, offset=offset)
