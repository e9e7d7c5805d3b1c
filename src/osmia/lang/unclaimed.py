# SPDX-License-Identifier: Apache-2.0
"""The template of the tool that looks for CPUs that are idle while threads wait for others."""

from __future__ import annotations

from osmia.lang.templates import CountTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.lang.maps import Hash

#: Fields of a round's number: in how many samples a CPU ran something, and which came too late; what waited in all.
BITS = 14
RUNNING, SKEWED, QUEUED = 1 << BITS, 1 << 2 * BITS, 1 << 3 * BITS


class Unclaimed(CountTable):
    """Shares of CPUs that run and that could, an interval a line; or what each sample found.

    ``rounds`` maps rounds of samples, one on each CPU, to their sums: the number
    of samples and the fields above.  ``samples`` maps rounds and CPUs to ``ts`` and
    ``length``, where the options ``raw`` or ``full`` ask for them.
    """

    view = "osmia.cli.unclaimed:UnclaimedView"

    def __init__(
        self,
        rounds: Hash,
        samples: Hash,
        *,
        raw: Any,
        full: Any,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__(rounds, [], prepare=prepare, interval=1.0)
        self.samples = samples
        self.raw = raw
        self.full = full
