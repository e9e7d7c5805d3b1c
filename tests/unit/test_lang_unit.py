# SPDX-License-Identifier: Apache-2.0
"""What a module declares, also by groups of programs and by options that follow from others."""

from __future__ import annotations

import pytest

from osmia.lang.options import Computed, option
from osmia.lang.probes import tracepoint
from osmia.lang.unit import Unit

pytestmark = pytest.mark.anywhere


@tracepoint("sched:sched_process_fork")
def first(record):
    pass


@tracepoint("sched:sched_process_exec")
def second(record):
    pass


@tracepoint("sched:sched_process_exit")
def third(record):
    pass


@pytest.mark.parametrize("group", [
    (first, second),
    {"entry": first, "exit": second},
    {"kernel": (first,), "program": (second, first)},
])  # fmt: skip
def test_programs_of_a_group_count_as_if_by_name(group: object) -> None:
    assert Unit("tool", {"PROGRAMS": group}).progs == [first, second]
    assert Unit("tool", {"third": third, "second": second, "PROGRAMS": group}).progs == [third, second, first]


@pytest.mark.parametrize("value", [(), {}, ("first", 1), {"first": 1}, [first]])
def test_other_values_have_no_programs(value: object) -> None:
    assert Unit("tool", {"VALUE": value}).progs == []


def test_a_computed_option_follows() -> None:
    file = option("--file", type=str, default="c")
    place = Computed("--file", lambda: f"{file}:open", type=str)
    assert place == "c:open"
    file.set("musl")
    place.value = "forgotten"
    assert str(place) == "musl:open"
