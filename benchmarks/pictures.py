#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long pictures take: 100,000 distinct stacks, made up as profiles are (tails that differ on shared beginnings).

CPU times, because these are computations only and machines do other things, too; the best of some rounds.

usage: pictures.py [number of stacks]
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from osmia.views import export_pprof, export_speedscope, flame, flame_svg, folded, offsets

ROUNDS = 5
START = 1_790_000_000 * offsets.SECOND


def made_up(number: int) -> list[tuple[Any, int]]:
    """``number`` distinct stacks of about twenty frames, the same ones each time."""
    rng = random.Random(1)
    frames = [(f"function_number_{n}_of_library", rng.choice("uuukji")) for n in range(6000)]
    programs = [(f"program{n}", "") for n in range(40)]
    known = [(rng.choice(programs), *rng.choices(frames, k=25)) for _ in range(200)]
    out: dict[Any, int] = {}
    while len(out) < number:
        base = rng.choice(known)
        stack = (*base[: rng.randrange(3, len(base))], *rng.choices(frames, k=rng.randrange(1, 18)))
        out[stack] = rng.randrange(1, 50)
        if rng.random() < 0.05:
            known.append(stack)
    return list(out.items())


def best(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU that ``action`` takes, and its result."""
    least, result = float("inf"), None
    for _ in range(ROUNDS):
        result = None
        before = time.process_time()
        result = action()
        least = min(least, time.process_time() - before)
    return least, result


def main(words: list[str]) -> int:
    stacks = made_up(int(words[0]) if words else 100_000)
    gc.disable()  # as in osmia itself
    text = folded.text(stacks, annotate=True)
    lines = text.splitlines()
    tree = flame.merge(stacks)
    samples = [(START + n * 599_000_000 // len(stacks) * 1000, stack) for n, (stack, _) in enumerate(stacks)]
    rows: list[tuple[str, Callable[[], Any]]] = [
        ("folded text", lambda: folded.text(stacks, annotate=True)),
        ("folded text, read", lambda: list(folded.read(lines))),
        ("stacks to tree", lambda: flame.merge(stacks)),
        ("tree to SVG", lambda: flame_svg.svg(tree)),
        ("stacks to SVG", lambda: flame_svg.svg(flame.merge(stacks))),
        ("stacks to HTML page", lambda: flame_svg.page(flame.merge(stacks))),
        ("pprof", lambda: export_pprof.pprof(stacks)),
        ("speedscope", lambda: export_speedscope.speedscope(stacks)),
        ("page of samples by time", lambda: offsets.page(offsets.Samples(samples))),
    ]
    print(f"{len(stacks):,} stacks, {sum(len(stack) for stack, _ in stacks):,} frames, {len(tree):,} in the tree\n")
    print("| | CPU, s | size, MB |\n|---|---:|---:|")
    for name, action in rows:
        seconds, result = best(action)
        size = f"{len(result) / 1e6:.1f}" if isinstance(result, (str, bytes)) else ""
        print(f"| {name} | {seconds:.2f} | {size} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
