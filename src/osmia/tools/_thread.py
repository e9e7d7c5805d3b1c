# SPDX-License-Identifier: Apache-2.0
"""The option for one thread under the letter that bcc gives it in some tools; the others have ``--tid`` only."""

from __future__ import annotations

from osmia.kernel.named import thread_number
from osmia.lang import filters
from osmia.lang.options import option

tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")


def one_thread() -> None:
    """Hand it to the filter that all share; for a template's ``prepare``."""
    filters.tid.value = tid.value
