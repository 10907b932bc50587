"""What nominal 95% intervals cover: `python -m benchmarks.coverage` writes coverage.json, minutes.

Every population that a board's rows look like, alone and in all ordered pairs, at five and ten
seeds; and how often a test at 5% tells apart two rows of one interquartile mean.
`docs/explanation/statistics.md` shows the tables that are made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import numpy as np

from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics import Array, Estimate

SAMPLES, SINGLE = 2_000, 10_000
"""Of each pair of rows, and of each row alone."""

SEEDS = (5, 10)
TESTED = (6, 8, 10)  # of five seeds no permutation test can be below 5%
FILE = Path(__file__).with_suffix(".json")

Population = Callable[[np.random.Generator, Any], Array]


def two(share: float, upper: tuple[float, float], lower: tuple[float, float]) -> Population:
    """Returns a mixture of two normals, `share` of it the upper one."""

    def draw(stream: np.random.Generator, shape: Any) -> Array:
        high, low = stream.normal(*upper, shape), stream.normal(*lower, shape)
        return np.where(stream.random(shape) < share, high, low)

    return draw


POPULATIONS: dict[str, Population] = {
    "normal": lambda stream, shape: stream.normal(3500.0, 600.0, shape),
    "lognormal .5": lambda stream, shape: 3000.0 * np.exp(0.5 * stream.normal(size=shape)),
    "lognormal 1": lambda stream, shape: 2000.0 * np.exp(stream.normal(size=shape)),
    "bimodal half/half": two(0.5, (4000.0, 300.0), (1000.0, 300.0)),
    "bimodal .7/.3": two(0.7, (4000.0, 300.0), (1000.0, 300.0)),
    "collapse": two(0.75, (4000.0, 600.0), (100.0, 50.0)),
}
"""In score units; "collapse" is a row of which a quarter of the runs end near nothing."""


def covered(intervals: Sequence[Estimate], truth: float) -> float:
    """Returns the share of the intervals that hold the truth."""
    low, high = np.array([(e.low, e.high) for e in intervals], dtype=np.float64).T
    slack = 1e-9 * abs(truth)
    return round(float(np.mean((low - slack <= truth) & (truth <= high + slack))), 4)


def differences(a: Array, b: Array) -> list[Estimate]:
    """Returns `paired_iqm_difference` of each sample."""
    found: list[Estimate] = []
    for at in range(0, len(a), 100):
        x, y = a[at : at + 100], b[at : at + 100]
        pairs = [(k, len(x) + k) for k in range(len(x))]
        found += statistics.iqm_differences(np.concatenate([x, y]), pairs)
    return found


def measure() -> dict[str, Any]:
    """Returns every coverage by what it is of."""
    large = {
        name: draw(generator(0, f"truth:{name}"), 400_000) for name, draw in POPULATIONS.items()
    }
    iqm = {name: float(statistics.iqm(values)) for name, values in large.items()}
    mean = {name: float(values.mean()) for name, values in large.items()}
    single, pairs = [], []
    for seeds in SEEDS:
        for name, draw in POPULATIONS.items():
            rows = list(draw(generator(seeds, f"coverage:{name}"), (SINGLE, seeds)))
            single.append(
                {
                    "population": name,
                    "seeds": seeds,
                    "iqm": covered(statistics.iqm_intervals(rows), iqm[name]),
                    "mean": covered(statistics.mean_intervals(rows), mean[name]),
                }
            )
        for a, b in product(POPULATIONS, repeat=2):
            stream = generator(seeds, f"coverage:{a}:{b}")
            x, y = (POPULATIONS[name](stream, (SAMPLES, seeds)) for name in (a, b))
            order = np.sort(large[b])
            above = np.searchsorted(order, large[a]).mean() / len(order)
            improvement = [
                statistics.paired_probability_of_improvement(p, q)
                for p, q in zip(x, y, strict=True)
            ]
            pairs.append(
                {
                    "a": a,
                    "b": b,
                    "seeds": seeds,
                    "iqm difference": covered(differences(x, y), iqm[a] - iqm[b]),
                    "mean difference": covered(
                        statistics.mean_intervals(list(x - y)), mean[a] - mean[b]
                    ),
                    "improvement": covered(improvement, float(above)),
                    "improvement where .96": covered(
                        [
                            statistics.paired_probability_of_improvement(p, q)
                            for p, q in zip(x + shift(large[a], order, 0.96), y, strict=True)
                        ],
                        0.96,
                    ),
                }
            )
            print(pairs[-1], flush=True)
    tests = [
        false_calls(a, b, seeds, iqm[b] - iqm[a])
        for seeds in TESTED
        for a, b in combinations_with_replacement(POPULATIONS, 2)
    ]
    return {
        "samples": SAMPLES,
        "single samples": SINGLE,
        "single": single,
        "pairs": pairs,
        "tests": tests,
    }


def false_calls(a: str, b: str, seeds: int, shift: float) -> dict[str, Any]:
    """Returns how often rows of one interquartile mean differ by test, by interval and by both."""
    stream = generator(seeds, f"test:{a}:{b}")
    x, y = (POPULATIONS[name](stream, (SAMPLES, seeds)) for name in (a, b))
    x += shift
    p_values = statistics.swap_p_values(list(zip(x, y, strict=True)))
    found = differences(x, y)
    apart = [statistics.told_apart(e.low, e.high, 0.0) for e in found]
    both = [statistics.told_apart(e.low, e.high, p) for e, p in zip(found, p_values, strict=True)]
    called = {"swap": np.array(p_values) <= 0.05, "interval": apart, "both": both}
    told = {"a": a, "b": b, "seeds": seeds}
    told |= {name: round(float(np.mean(hit)), 4) for name, hit in called.items()}
    print(told, flush=True)
    return told


def shift(a: Array, ordered: Array, share: float) -> float:
    """Returns what is to be added to `a` that it be above the other with this probability."""
    low, high = -1e6, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        above = np.searchsorted(ordered, a + middle).mean() / len(ordered)
        low, high = (middle, high) if above < share else (low, middle)
    return high


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
