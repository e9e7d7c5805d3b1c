# SPDX-License-Identifier: Apache-2.0
"""How many files this process may have open."""

from __future__ import annotations

#: For all that is not counted: maps, rings, sources of types.
_OTHERS = 256


def make_room(descriptors: int) -> None:
    """Raise the soft limit of open files (RLIMIT_NOFILE) for so many more, as far as the hard one goes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
