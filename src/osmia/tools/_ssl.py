# SPDX-License-Identifier: Apache-2.0
"""User half: libraries that encrypt, and their functions by what these do."""

from __future__ import annotations

import os

#: What a function does.  One with ``_EX`` returns whether it has, and says how much by its fourth argument.
READ, WRITE, HANDSHAKE, READ_EX, WRITE_EX = range(5)
FUNCTIONS = ("READ/RECV", "WRITE/SEND", "HANDSHAKE")
#: Of each kind of library the short name, and its functions.
KINDS: dict[str, tuple[str, dict[int, tuple[str, ...]]]] = {
    "openssl": ("ssl", {
        HANDSHAKE: ("SSL_do_handshake",), READ: ("SSL_read",), READ_EX: ("SSL_read_ex",), WRITE: ("SSL_write",),
        WRITE_EX: ("SSL_write_ex",),
    }),
    "gnutls": ("gnutls", {READ: ("gnutls_record_recv",), WRITE: ("gnutls_record_send",)}),
    "nss": ("nspr4", {READ: ("PR_Read", "PR_Recv"), WRITE: ("PR_Write", "PR_Send")}),
}  # fmt: skip


def library(word):
    """The ``parse`` of ``KIND:FILE``: both; ValueError."""
    kind, _, file = word.partition(":")
    if kind not in KINDS or not file:
        raise ValueError(f"{word!r} is not KIND:FILE, and KIND one of {', '.join(KINDS)}")
    if not os.path.isfile(file):
        raise ValueError(f"{file}: there is no such file")
    return kind, file


def within(kind, file, wanted):
    """``FILE:FUNCTION`` of the functions of a library that do one of ``wanted``."""
    return [f"{file}:{name}" for what in wanted for name in KINDS[kind][1].get(what, ())]
