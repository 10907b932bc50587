"""How often seeds are enough: `python -m benchmarks.stopping` writes stopping.json, in a minute.

False calls of `statistics.decided` under peeking, what it finds, and what `seeds_needed` promises.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage import POPULATIONS
from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics import Array, comparisons
from pairbench.statistics.stopping import PEEK, PEEKED

GRIDS, DRAWS = 2_000, 10_000
FILE = Path(__file__).with_suffix(".json")
NULLS = ("normal", "lognormal 1", "bimodal half/half", "bimodal .7/.3", "collapse")


def looks(differences: Array) -> Array:
    """Returns p-values (grids, PEEKED - 1) of the first two seeds, the first three, and so on."""
    found = [
        statistics.sign_flip_p_values(list(differences[:, :count]), DRAWS)
        for count in range(2, PEEKED + 1)
    ]
    return np.array(found).T


def stopped(p_values: Array) -> dict[str, float]:
    """Returns the share of grids that are ever called different, and the seeds they took."""
    hit = p_values <= PEEK
    ever = hit.any(axis=1)
    seeds = np.where(ever, hit.argmax(axis=1) + 2, PEEKED)
    return {
        "called different": round(float(ever.mean()), 4),
        "seeds": round(float(seeds.mean()), 1),
    }


def measure() -> dict[str, Any]:
    """Returns what the rule does under the null and at effects, and the power of planned seeds."""
    comparisons.EXACT_FLIPS = 10  # beyond that seeded sign patterns, or this would take hours
    null, effect, plan = {}, {}, []
    for name in NULLS:
        draw, stream = POPULATIONS[name], generator(0, f"stopping:{name}")
        a, b = (draw(stream, (GRIDS, PEEKED)) for _ in range(2))
        p_values = looks(a - b)
        null[name] = stopped(p_values) | {
            "at 5% a look": round(float((p_values <= 0.05).any(axis=1).mean()), 4)
        }
        print(name, null[name], flush=True)
    for size in (0.5, 1.0, 1.5, 2.0):
        noise = generator(0, f"stopping:{size}").normal(size=(GRIDS, PEEKED))
        effect[f"{size:g}"] = stopped(looks(noise + size))
    for name in ("normal", "lognormal 1", "collapse"):
        draw, stream = POPULATIONS[name], generator(0, f"plan:{name}")
        large = draw(stream, 400_000) - draw(stream, 400_000)
        deviation = float(large.std())
        for size in (0.8, 1.2):
            seeds = statistics.seeds_needed(size * deviation, deviation)
            assert seeds is not None
            a, b = (draw(stream, (GRIDS, seeds)) for _ in range(2))
            p = statistics.sign_flip_p_values(list(a - b + size * deviation), DRAWS)
            found = round(float(np.mean(np.array(p) <= 0.05)), 4)
            plan.append({"rows": name, "effect": size, "seeds": seeds, "found": found})
    return {
        "grids": GRIDS,
        "level": PEEK,
        "seeds": PEEKED,
        "null": null,
        "effect": effect,
        "plan": plan,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
