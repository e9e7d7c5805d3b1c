# SPDX-License-Identifier: Apache-2.0
"""User half: entries for the journal of systemd, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket

PATH = "/run/systemd/journal/socket"
_open: list[socket] = []


def connect(tool: str) -> None:
    """UserError where there is no journal."""
    import socket

    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.connect(PATH)
    except OSError:
        made.close()
        raise UserError(f"there is no journal here: nobody listens at {PATH}", where=tool, fix="leave -Y out") from None
    _open[:] = [made]


def send(fields: Mapping[str, object]) -> None:
    """One entry; the names of fields are of capital letters, digits and underscores."""
    _open[0].send(b"".join([_field(name, str(value)) for name, value in fields.items()]))


def _field(name: str, text: str) -> bytes:
    value = text.encode(errors="surrogateescape")
    if b"\n" in value:  # such a value is told with its length
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
