# SPDX-License-Identifier: Apache-2.0
"""Where the functions of threads are: in the C library, or in one beside it."""

from __future__ import annotations

from osmia.lang.options import Computed

LIBRARIES = ("c", "pthread")  # of the C library, the second before glibc 2.34


def within(file, names):
    """``FILE:FUNCTION`` of the functions ``names`` (or what that option says, separated by commas).

    FILE is what the option ``file`` says; if nothing, each library that may have them.
    """

    def places():
        files = (file.value,) if file.value else LIBRARIES
        return ",".join([f"{one}:{name}" for name in str(names).split(",") for one in files])

    return Computed(file.flags[-1], places, type=str)
