# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in ways that the user can mend."""

from __future__ import annotations


class Problem(Exception):
    """One sentence for the user, with what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}; {fix}" if fix else what)
