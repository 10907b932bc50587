"""What nominal 95% intervals cover at 5 and 10 seeds, simulated; the statistics package tells it.

Every share below has a standard error of about 0.9% (600 samples).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics import Array, Estimate

SAMPLES, REPLICATES = 600, 1000


def covered(intervals: Iterator[Estimate], truth: float) -> float:
    """Returns the share of the intervals that hold the truth."""
    hits = [
        e.low is not None and e.high is not None and e.low <= truth <= e.high for e in intervals
    ]
    return float(np.mean(hits))


def skewed(stream: np.random.Generator, *shape: int) -> Array:
    """Scores with a long upper tail."""
    return stream.gamma(2.0, size=shape)


def collapsing(stream: np.random.Generator, *shape: int) -> Array:
    """Scores near 1, a quarter of them near 0."""
    good = stream.normal(1.0, 0.2, shape)
    return np.where(stream.random(shape) < 0.25, stream.normal(0.0, 0.05, shape), good)


def plain(stream: np.random.Generator, *shape: int) -> Array:
    """Normal scores."""
    return stream.normal(size=shape)


POPULATIONS: dict[str, Callable[..., Array]] = {
    "normal": plain,
    "skewed": skewed,
    "collapse": collapsing,
}


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("seeds", [5, 10])
def test_stratified_interquartile_means(name: str, seeds: int) -> None:
    """Three tasks of one population, scaled and shifted, pooled."""
    stream = generator(seeds, f"test:strata:{name}")
    population = POPULATIONS[name]
    shifts = np.array([0.0, 0.2, 0.5])[:, None]
    truth = float(statistics.iqm((population(stream, 3, 200_000) + shifts).ravel()))
    samples = population(stream, SAMPLES, 3, seeds) + shifts
    tasks = [samples[:, k] for k in range(3)]
    share = covered(iter(statistics.stratified_iqm(tasks, replicates=REPLICATES)), truth)
    print(f"stratified iqm {name} {seeds} {share:.3f}")
    assert 0.92 <= share <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("seeds", [5, 10])
def test_medians(name: str, seeds: int) -> None:
    stream = generator(seeds, f"test:median:{name}")
    truth = float(np.median(POPULATIONS[name](stream, 400_000)))
    samples = POPULATIONS[name](stream, SAMPLES, seeds)
    intervals = (
        statistics.bootstrap([row], lambda s: statistics.median(s[0]), replicates=REPLICATES)
        for row in samples
    )
    share = covered(intervals, truth)
    print(f"median {name} {seeds} {share:.3f}")
    assert 0.92 <= share <= 0.995


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("seeds", [5, 10])
def test_performance_profiles(name: str, seeds: int) -> None:
    """Bands of two tasks at the levels that 5 to 95% of runs exceed, averaged over the levels."""
    stream = generator(seeds, f"test:profile:{name}")
    population = POPULATIONS[name](stream, 400_000)
    levels = np.quantile(population, np.linspace(0.05, 0.95, 10))
    shares = [np.mean(population > level) for level in levels]
    samples = POPULATIONS[name](stream, SAMPLES, 2, seeds)
    bands = [statistics.profile_interval(list(pair), levels) for pair in samples]
    each = [covered((b[k] for b in bands), shares[k]) for k in range(len(levels))]
    print(f"profile {name} {seeds} mean {np.mean(each):.3f} least {min(each):.3f}")
    assert 0.92 <= np.mean(each) <= 0.98
    assert min(each) >= 0.88


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [5, 10])
def test_probabilities_of_improvement(shift: float, seeds: int) -> None:
    """At least 93%; of rows whose seeds share 70%, all of them."""
    stream = generator(seeds, f"test:improvement:{shift}")
    truth = NormalDist().cdf(shift / 2**0.5)
    for shared in (0.0, 0.7):
        common = stream.normal(0, shared**0.5, (SAMPLES, seeds))
        a, b = (common + stream.normal(0, (1 - shared) ** 0.5, (SAMPLES, seeds)) for _ in range(2))
        intervals = (
            statistics.paired_probability_of_improvement(x + shift, y)
            for x, y in zip(a, b, strict=True)
        )
        share = covered(intervals, truth)
        print(f"improvement shift {shift} shared {shared} {seeds} {share:.3f}")
        assert share >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10])
def test_strengths(seeds: int) -> None:
    """Four rows whose runs differ, 16 contexts: the truth is the fit to the expected wins."""
    stream = generator(seeds, "test:strengths")
    levels, spread, contexts = np.array([1.0, 0.5, 0.0, -1.5]), 0.7, 16

    def chances(runs: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(runs[..., None, :] - runs[..., :, None])))

    expected = chances(levels + stream.normal(0, spread, (200_000, 4))).mean(axis=0)
    truth = statistics.bradley_terry(seeds * contexts * expected)
    upper = np.triu(np.ones((4, 4)), 1)
    found = []
    for _ in range(SAMPLES // 2):
        chance = chances(levels + stream.normal(0, spread, (seeds, 4)))
        wins = stream.binomial(contexts, chance) * upper
        wins = wins + ((contexts - wins) * upper).swapaxes(1, 2)
        found.append(statistics.bradley_terry_intervals(wins, replicates=REPLICATES))
    each = [covered((f[k] for f in found), truth[k]) for k in range(4)]
    print(f"strengths {seeds} {np.round(each, 3)}")
    assert 0.92 <= np.mean(each) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10])
def test_paired_differences(seeds: int) -> None:
    """Of normal and of skewed scores; the swap test cries wolf at most as often as it says."""
    stream = generator(seeds, "test:paired")
    for name, truth in (("normal", 0.5), ("skewed", 0.0)):
        common = stream.normal(0, 2, (SAMPLES, seeds))
        a, b = (common + POPULATIONS[name](stream, SAMPLES, seeds) for _ in range(2))
        intervals = (
            statistics.bootstrap([x + truth - y], lambda s: s[0].mean(-1), replicates=REPLICATES)
            for x, y in zip(a, b, strict=True)
        )
        share = covered(intervals, truth)
        wolf = np.mean([statistics.swap_p_value(x, y) <= 0.05 for x, y in zip(a, b)])
        print(f"paired {name} {seeds} {share:.3f}, false alarms {wolf:.3f}")
        assert 0.92 <= share <= 0.98
        assert wolf <= 0.075


MEASURED = json.loads(
    (Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.json").read_text("utf-8")
)


def test_what_boards_show_covers_93_percent_of_every_shape() -> None:
    """As `benchmarks/coverage.py` measured it, alone and in all 36 ordered pairs."""
    assert len(MEASURED["single"]) == 2 * 6 and len(MEASURED["pairs"]) == 2 * 36
    assert min(line["iqm"] for line in MEASURED["single"]) >= 0.93
    for what in ("iqm difference", "improvement", "improvement where .96"):
        assert min(pair[what] for pair in MEASURED["pairs"]) >= 0.93, what


def test_the_measurement_is_of_this_code() -> None:
    """One pair again, 600 samples: a row that collapses and a normal one, at five seeds."""
    stream = generator(5, "test:measured")
    upper, lower = stream.normal(4000, 600, (SAMPLES, 5)), stream.normal(100, 50, (SAMPLES, 5))
    a = np.where(stream.random((SAMPLES, 5)) < 0.75, upper, lower)
    b = stream.normal(3500, 600, (SAMPLES, 5))
    truth = 3673.0 - 3501.0  # of 400,000 runs each
    pairs = [(k, SAMPLES + k) for k in range(SAMPLES)]
    share = covered(iter(statistics.iqm_differences(np.concatenate([a, b]), pairs)), truth)
    (told,) = (
        pair["iqm difference"]
        for pair in MEASURED["pairs"]
        if (pair["a"], pair["b"], pair["seeds"]) == ("collapse", "normal", 5)
    )
    print(f"collapse and normal {share:.3f}, measured {told:.3f}")
    assert abs(share - told) <= 0.03


def test_interval_and_test_together_err_in_six_percent_at_most_whatever_the_shapes() -> None:
    """As `benchmarks/coverage.py` measured it; the swap test alone does so for rows alike only."""
    tests = MEASURED["tests"]
    assert len(tests) == 3 * 21
    assert max(pair["both"] for pair in tests) <= 0.06
    assert max(pair["swap"] for pair in tests if pair["a"] == pair["b"]) <= 0.06
    (told,) = (
        pair
        for pair in tests
        if (pair["a"], pair["b"], pair["seeds"]) == ("normal", "bimodal half/half", 8)
    )
    assert told["swap"] > 0.1 > 0.05 >= told["both"]
    stream = generator(8, "test:false calls")
    a = stream.normal(2500.0, 600.0, (SAMPLES, 8))  # both have an interquartile mean of 2500
    b = stream.normal(np.where(stream.random((SAMPLES, 8)) < 0.5, 4000.0, 1000.0), 300.0)
    p_values = statistics.swap_p_values(list(zip(a, b, strict=True)))
    pairs = [(k, SAMPLES + k) for k in range(SAMPLES)]
    gaps = statistics.iqm_differences(np.concatenate([a, b]), pairs)
    both = [statistics.told_apart(g.low, g.high, p) for g, p in zip(gaps, p_values, strict=True)]
    print(np.mean(np.array(p_values) <= 0.05), np.mean(both), told)
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(told["swap"], abs=0.06)
    assert np.mean(both) == pytest.approx(told["both"], abs=0.03)
