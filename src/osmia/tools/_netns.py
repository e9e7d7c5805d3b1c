# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that take ``--netns-id`` or ``--pid-netns``: packets of one network namespace only."""

from __future__ import annotations

import os

from osmia.errors import OptionError
from osmia.lang.options import option
from osmia.lang.types import u32


def _namespace_of(word: str) -> int:
    """What ``--pid-netns`` means: the number of the network namespace of process PID."""
    from osmia.kernel.named import process_number

    try:
        return os.stat(f"/proc/{process_number(word)}/ns/net").st_ino
    except OSError as err:
        raise ValueError(f"the network namespace of process {word} cannot be read: {err.strerror}") from None


netns_id = option("--netns-id", type=u32, metavar="ID", help="this network namespace only (inode of /proc/PID/ns/net)")
pid_netns = option("--pid-netns", type=u32, parse=_namespace_of, metavar="PID",
                   help="the network namespace of process PID only")  # fmt: skip


def one_namespace(tool: str) -> None:
    """OptionError where both are given; for a template's ``prepare``."""
    if netns_id and pid_netns:
        raise OptionError("--netns-id and --pid-netns exclude each other", where=tool, fix="give one of them")


def in_namespace(skb, sk):
    """Whether the packet, which belongs to the socket ``sk`` or to none (0), is where the options ask for."""
    if netns_id:
        return namespace(skb, sk) == netns_id
    return not pid_netns or namespace(skb, sk) == pid_netns


def namespace(skb, sk):
    if sk:
        return sk.__sk_common.skc_net.net.ns.inum
    return skb.dev.nd_net.net.ns.inum if skb.dev else 0
