"""How often seeds are enough: `python -m benchmarks.stopping` writes stopping.json, in a minute.

False calls of `statistics.decided` under peeking, what it finds, and what `seeds_needed` promises.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage import POPULATIONS, differences
from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics import Array, comparisons
from pairbench.statistics.stopping import PEEK, PEEKED

GRIDS, EFFECTS, DRAWS = 2_000, 500, 5_000
"""Pairs of rows that are equal, pairs that differ, and swaps that a test draws."""

FILE = Path(__file__).with_suffix(".json")
UNLIKE = (
    ("normal", "lognormal 1"),
    ("normal", "bimodal half/half"),
    ("normal", "collapse"),
    ("lognormal 1", "collapse"),
    ("bimodal half/half", "bimodal .7/.3"),
)
"""Two shapes moved to one interquartile mean, which the swap test's null does not hold."""


def looks(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns p-values (grids, PEEKED - 1) after two seeds, three and so on, and what is decided.

    Beyond ten seeds of `DRAWS` swaps, or this would take hours.
    """
    p_values, decided = [], [np.zeros(len(a), dtype=bool)]
    for count in range(2, PEEKED + 1):
        x, y = a[:, :count], b[:, :count]
        found = np.array(statistics.swap_p_values(list(zip(x, y, strict=True)), DRAWS))
        hits = np.flatnonzero((found <= PEEK) & ~decided[-1]).tolist()
        several = statistics.iqm_differences(
            np.concatenate([x[hits], y[hits]]),
            [(k, len(hits) + k) for k in range(len(hits))],
            1 - PEEK,
        )
        told = decided[-1].copy()  # what is decided stays so: nobody looks again
        told[hits] = [
            statistics.told_apart(gap.low, gap.high, found[k], PEEK)
            for gap, k in zip(several, hits, strict=True)
        ]
        p_values.append(found)
        decided.append(told)
    return np.array(p_values).T, np.array(decided[1:]).T


def stopped(decided: Array) -> dict[str, float]:
    """Returns the share of grids that are ever called different, and the seeds they took."""
    ever = decided.any(axis=1)
    seeds = np.where(ever, decided.argmax(axis=1) + 2, PEEKED)
    return {
        "called different": round(float(ever.mean()), 4),
        "seeds": round(float(seeds.mean()), 1),
    }


def null(first: str, second: str) -> dict[str, float]:
    """Returns how often two rows of one interquartile mean are called different."""
    stream = generator(0, f"stopping:{first}:{second}")
    a, b = (POPULATIONS[name](stream, (GRIDS, PEEKED)) for name in (first, second))
    if first != second:
        large = [POPULATIONS[name](stream, 400_000) for name in (first, second)]
        a += float(statistics.iqm(large[1]) - statistics.iqm(large[0]))
    p_values, decided = looks(a, b)
    at_5 = float((p_values <= 0.05).any(axis=1).mean())
    told = stopped(decided) | {"at 5% a look": round(at_5, 4)}
    print(first, second, told, flush=True)
    return told


def measure() -> dict[str, Any]:
    """Returns what the rule does under the null and at effects, and the power of planned seeds."""
    comparisons.EXACT_SWAPS = 10
    alike = {name: null(name, name) for name in POPULATIONS}
    unlike = {f"{first} and {second}": null(first, second) for first, second in UNLIKE}
    effect, plan = {}, []
    for size in (0.5, 1.0, 1.5, 2.0):
        noise = generator(0, f"stopping:{size}").normal(size=(2, EFFECTS, PEEKED))
        effect[f"{size:g}"] = stopped(looks(noise[0] + size * 2**0.5, noise[1])[1])
        print(size, effect[f"{size:g}"], flush=True)
    for name in ("normal", "lognormal 1", "collapse"):
        draw, stream = POPULATIONS[name], generator(0, f"plan:{name}")
        large = draw(stream, 400_000) - draw(stream, 400_000)
        deviation = float(large.std())
        for size in (0.8, 1.2):
            seeds = statistics.seeds_needed(size * deviation, deviation)
            assert seeds is not None
            a, b = (draw(stream, (EFFECTS, seeds)) for _ in range(2))
            a += size * deviation
            p_values = statistics.swap_p_values(list(zip(a, b, strict=True)), DRAWS)
            told = [
                statistics.told_apart(gap.low, gap.high, p)
                for gap, p in zip(differences(a, b), p_values, strict=True)
            ]
            found = round(float(np.mean(told)), 4)
            plan.append({"rows": name, "effect": size, "seeds": seeds, "found": found})
            print(plan[-1], flush=True)
    return {
        "grids": GRIDS,
        "level": PEEK,
        "seeds": PEEKED,
        "null": alike,
        "unlike": unlike,
        "effect": effect,
        "plan": plan,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
