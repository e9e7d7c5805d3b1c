# SPDX-License-Identifier: Apache-2.0
"""Stacks as a file for speedscope (github.com/jlfwong/speedscope), in its own JSON form.

Speedscope also reads folded stacks; this form keeps the unit, the name of the
run and, where the stacks come in the order of time, that order.
"""

from __future__ import annotations

from osmia.views.frames import KINDS, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.views.frames import Frame, Stack

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
#: Our names of units → speedscope's; all others are "none": a number.
_UNITS = {
    "ns": "nanoseconds", "nsecs": "nanoseconds", "us": "microseconds", "usecs": "microseconds",
    "ms": "milliseconds", "msecs": "milliseconds", "s": "seconds", "secs": "seconds", "bytes": "bytes",
    "nanoseconds": "nanoseconds", "microseconds": "microseconds", "milliseconds": "milliseconds", "seconds": "seconds",
}  # fmt: skip


def speedscope(stacks: Iterable[tuple[Stack, int]], *, name: str = "osmia", unit: str = "samples") -> str:
    """The file's text.  ``stacks`` in their order of time where they have one ("Time Order" shows it)."""
    import json

    from osmia.version import __version__

    numbers: dict[Frame, int] = {}
    frames: list[dict[str, str]] = []
    samples: list[list[int]] = []
    weights: list[int] = []
    for stack, count in stacks:
        sample = []
        for frame in stack:
            number = numbers.get(frame)
            if number is None:
                number = numbers[frame] = len(frames)
                kind = KINDS[frame[1]]
                # "file" is shown beside the name, and colours go by it.
                frames.append({"name": clean(frame[0]), **({"file": kind} if kind else {})})
            sample.append(number)
        samples.append(sample)
        weights.append(count)
    profile = {
        "type": "sampled",
        "name": clean(name),
        "unit": _UNITS.get(unit, "none"),
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    whole = {
        "$schema": _SCHEMA,
        "exporter": f"osmia@{__version__}",
        "name": clean(name),
        "activeProfileIndex": 0,
        "shared": {"frames": frames},
        "profiles": [profile],
    }
    return json.dumps(whole, separators=(",", ":")) + "\n"
