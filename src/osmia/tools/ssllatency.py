# SPDX-License-Identifier: Apache-2.0
"""Summarize how long OpenSSL takes to shake hands, read and write, and for the cryptography in that."""

from __future__ import annotations

from osmia import Hash, attach_cookie, current, histogram, ktime, linear_hist, option, uprobe, uretprobe
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.options import Computed
from osmia.lang.types import s32, u32, u64
from osmia.tools._ssl import HANDSHAKE, READ, READ_EX, WRITE, WRITE_EX, within

#: Of libcrypto; all but the first two have names only where its debug symbols are installed.
CRYPTO = ("RSA_sign", "RSA_verify", "rsa_ossl_public_encrypt", "rsa_ossl_public_decrypt", "rsa_ossl_private_encrypt",
          "rsa_ossl_private_decrypt", "ossl_ecdsa_sign", "ossl_ecdsa_verify", "ecdh_simple_compute_key")  # fmt: skip
FAILED = 1 << 16  # added to the number of a function

libssl = option("--libssl", type=str, default="ssl", metavar="FILE", help="the library that has SSL_read() "
                "(default: that of the process given with -p, else this system's)")  # fmt: skip
libcrypto = option("--libcrypto", type=str, default="crypto", metavar="FILE", help="the same for RSA_sign()")


def functions():
    """``FILE:FUNCTION`` of every function."""
    ssl = within("openssl", str(libssl), (HANDSHAKE, READ, READ_EX, WRITE, WRITE_EX))
    return ",".join([*ssl, *(f"{libcrypto}:{one}" for one in CRYPTO)])


starts = Hash[tuple[u32, u64], u64]()  # by thread and function: a handshake signs, for example
took = linear_hist("usecs", low=0, high=1000, step=200, key=u32)
FUNCTIONS = Computed("--libssl", functions, type=str)


@uprobe(FUNCTIONS)
def enter():
    if wanted():
        starts[current.pid, attach_cookie()] = ktime()


@uretprobe(FUNCTIONS)
def leave(ret: s32):
    function = attach_cookie()
    start = starts.pop((current.pid, function))
    if start is not None:
        took[function + (FAILED if ret < 1 else 0)].add((ktime() - start) // 1000)


def label(key):
    """The function, and whether these are its failures."""
    return leave.names[key % FAILED] + (" (failed)" if key >= FAILED else "")


def summaries(new):
    """Each histogram, and the exact count, average and total below it."""
    out = []
    for key, one in sorted(new.items()):
        out.append(f"\nfunction = {label(key)}\n{one.text('usecs')}")
        out.append(f"count {one.count}, average {one.sum // one.count}, total {one.sum}\n")
    return "".join(out)


tool = histogram(
    took,
    section="function",
    label=label,
    text=summaries,
    placed=lambda: None,  # a recording has not the names of what was probed, and says so
    banner="Tracing SSL/TLS handshake... Hit Ctrl-C to end.",
)
tool.descendants = True
