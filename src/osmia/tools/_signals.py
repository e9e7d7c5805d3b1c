# SPDX-License-Identifier: Apache-2.0
"""User half: signals by number and name."""

from __future__ import annotations


def signal_name(number: int) -> str:
    """Its name without ``SIG`` (``"KILL"``), as this machine has it; ``"unknown"`` for one that has none."""
    import signal

    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return "unknown"


def signal_number(word: str) -> int:
    """The number of a signal by number or name (``9``, ``KILL``, ``SIGKILL``); ValueError."""
    import signal

    name = "SIG" + word.upper().removeprefix("SIG")
    number = int(word) if word.isdecimal() else int(getattr(signal, name, 0))
    if not 1 <= number <= 64:
        raise ValueError(f"there is no signal {word!r}")
    return number


def signal_mask(words: str) -> int:
    """A list of signals (``9,TERM``) as bits: number 1 in bit 0; ValueError."""
    mask = 0
    for word in words.split(","):
        mask |= 1 << signal_number(word) - 1
    return mask
