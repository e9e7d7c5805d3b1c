# SPDX-License-Identifier: Apache-2.0
"""A live program: its fd, what the kernel says of it, and single runs of it."""

from __future__ import annotations

import os
import struct

from osmia.kernel import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.obj.spec import ProgSpec


class ProgInfo:
    """What ``struct bpf_prog_info`` says.

    ``run_time_ns`` and ``run_cnt`` count only while statistics are on
    (:func:`osmia.kernel.bpf.enable_stats`); ``recursion_misses`` (5.12) are
    runs that were skipped because the program was already running on that
    CPU; ``verified_insns`` (5.16) is what the verifier walked.  Fields that
    an older kernel lacks are 0.  Sizes are bytes.
    """

    __slots__ = (
        "id", "jited_size", "map_count", "name", "recursion_misses", "run_cnt", "run_time_ns", "tag", "type",
        "verified_insns", "xlated_size",
    )  # fmt: skip

    def __init__(self, raw: bytes) -> None:
        raw = raw.ljust(232, b"\0")
        self.type, self.id, tag, self.jited_size, self.xlated_size = struct.unpack_from("<II8sII", raw)
        self.tag = tag.hex()
        self.map_count: int = struct.unpack_from("<I", raw, 52)[0]
        self.name = raw[64:80].split(b"\0", 1)[0].decode("ascii", "replace")
        self.run_time_ns, self.run_cnt, self.recursion_misses = struct.unpack_from("<QQQ", raw, 192)
        self.verified_insns: int = struct.unpack_from("<I", raw, 216)[0]


class LiveProg:
    """A loaded program.  ``spec`` is what it was made from."""

    __slots__ = ("fd", "name", "spec")

    def __init__(self, fd: int, spec: ProgSpec) -> None:
        self.fd = fd
        self.name = spec.name
        self.spec = spec

    def __repr__(self) -> str:
        return f"<LiveProg {self.name} fd={self.fd} section={self.spec.section}>"

    def info(self) -> ProgInfo:
        """Ask the kernel."""
        return ProgInfo(bpf.obj_get_info(self.fd, 232))

    def test_run(self, ctx: bytes = b"", *, data: bytes = b"", data_out: int = 0, repeat: int = 0) -> tuple[int, bytes]:
        """Run it once on ``ctx``: ``(return value, ctx afterwards)``; with ``data`` (packets) the data afterwards.

        OSError ENOTSUPP for types that the kernel cannot run so (tracepoint,
        kprobe); EINVAL if the ctx is shorter than what the program reads.
        raw_tracepoint since 5.10, syscall since 5.14.
        """
        retval, ctx_out, out, _ = bpf.prog_test_run(self.fd, ctx=ctx, data=data, data_out=data_out, repeat=repeat)
        return retval, out if data else ctx_out

    def close(self) -> None:
        """Close the fd; links keep an attached program alive."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
