"""Statistics over seeds: worked cases, invariances, and what the intervals really cover."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics import comparisons, intervals

SCORES = st.lists(
    st.floats(-1e4, 1e4).map(lambda x: round(x, 3)), min_size=2, max_size=12
)  # fmt: skip
FEW = settings(max_examples=40, deadline=None)


def test_interquartile_mean_by_hand() -> None:
    assert statistics.iqm([1.0, 2.0, 9.0]) == 4.0  # floor(3 / 4) = 0: nothing is cut
    assert statistics.iqm([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert statistics.iqm([0.0, 5.0, 1.0, 2.0, 3.0]) == 2.0
    assert statistics.iqm(np.arange(10.0)) == 4.5  # cuts 2 on either side
    assert statistics.iqm([7.0]) == 7.0
    table = np.array([[1.0, 2.0, 3.0, 100.0], [4.0, 4.0, 4.0, 4.0]])
    assert statistics.iqm(table).tolist() == [2.5, 4.0]
    assert statistics.iqm(table, axis=0).tolist() == [2.5, 3.0, 3.5, 52.0]
    with pytest.raises(ValueError, match="no scores"):
        statistics.iqm([])


def test_win_rate_counts_a_tie_as_one_half() -> None:
    assert statistics.win_rate([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 1.0]) == 0.625
    per_seed = statistics.win_rate([[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]])
    assert per_seed.tolist() == [1.0, 0.25]
    with pytest.raises(ValueError, match="same contexts"):
        statistics.win_rate([1.0, 2.0], [1.0])


def test_probability_of_improvement_by_hand() -> None:
    # pairs: 1>0, 1=1, 1<2; 3>0, 3>1, 3>2
    assert statistics.probability_of_improvement([1.0, 3.0], [0.0, 1.0, 2.0]) == 4.5 / 6


def test_drawdown_by_hand() -> None:
    assert statistics.drawdown([1.0, 5.0, 2.0, 6.0, 4.5]) == 3.0
    assert statistics.drawdown([1.0, 2.0, 2.0]) == 0.0
    with pytest.raises(ValueError, match="without a point"):
        statistics.drawdown([])


def test_student_quantiles_against_tables() -> None:
    for df, table in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)):
        assert statistics.student_t_quantile(0.975, df) == pytest.approx(table, abs=1e-4)
        assert statistics.student_t_quantile(0.025, df) == pytest.approx(-table, abs=1e-4)


def test_sign_flips_by_hand() -> None:
    # Of the 8 patterns only +++ and --- are as far from zero.
    assert statistics.sign_flip_p_value([1.0, 2.0, 3.0]) == 0.25
    # |sum| >= 4 for: +++, +-+ excluded (1 - 2 + 3 = 2), -++ (4), and their negatives.
    assert statistics.sign_flip_p_value([-1.0, 2.0, 3.0]) == 0.5
    assert statistics.sign_flip_p_value([0.0, 0.0]) == 1.0
    assert statistics.sign_flip_p_value([5.0]) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        statistics.sign_flip_p_value([])


def test_sampled_sign_flips_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = generator(3, "test").normal(0.5, 1.0, 12)
    exact = statistics.sign_flip_p_value(differences)
    monkeypatch.setattr(comparisons, "EXACT_FLIPS", 4)
    sampled = statistics.sign_flip_p_value(differences)
    assert 0.01 < exact < 0.9
    assert sampled == pytest.approx(exact, abs=0.006)  # four standard errors at 100,000 draws


def test_one_seed_has_no_interval() -> None:
    assert statistics.iqm_interval([3.0]) == (3.0, None, None)
    assert statistics.paired_difference([3.0], [1.0]) == (2.0, None, None)
    with pytest.raises(ValueError, match="at least one seed"):
        statistics.iqm_interval([])


def test_interval_by_hand() -> None:
    """Two seeds 0 and 1: resamples 0, .5, 1 with odds 1:2:1, so the 2.5% quantiles are 0 and 1."""
    stretch = 12.7062 / 1.959964 * np.sqrt(2)
    estimate, low, high = statistics.iqm_interval([0.0, 1.0])
    assert estimate == 0.5
    assert low == pytest.approx(0.5 - 0.5 * stretch, rel=1e-4)
    assert high == pytest.approx(0.5 + 0.5 * stretch, rel=1e-4)


def test_strata_are_resampled_apart_and_weigh_by_their_statistic() -> None:
    def mean_of_means(strata: Sequence[statistics.Array]) -> statistics.Array:
        return np.asarray((strata[0].mean(-1) + strata[1].mean(-1)) / 2)

    noise = generator(1, "test").normal(size=(2, 6))
    both = statistics.bootstrap([noise[0], noise[1] + 10.0], mean_of_means)
    assert both.estimate == pytest.approx((noise[0].mean() + noise[1].mean()) / 2 + 5)
    alone = [statistics.mean_interval(part) for part in noise]
    assert both.low is not None and both.high is not None
    widths = [a.high - a.low for a in alone if a.high is not None and a.low is not None]
    # Independent halves: narrower than their mean width; tied together it would equal it.
    assert both.high - both.low < 0.9 * np.mean(widths)


def test_missing_opponents_do_not_pull_the_mean() -> None:
    table = [[1.0, np.nan], [1.0, np.nan], [1.0, 0.0]]
    assert statistics.mean_interval(table).estimate == 0.5
    assert statistics.mean_interval([[1.0], [1.0], [0.0]], limits=(0, 1)).high == 1.0


@FEW
@given(SCORES, st.randoms(use_true_random=False))
def test_order_of_seeds_changes_nothing(scores: list[float], random: object) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert statistics.iqm_interval(shuffled) == statistics.iqm_interval(scores)
    assert statistics.sign_flip_p_value(shuffled) == statistics.sign_flip_p_value(scores)


@FEW
@given(SCORES)
def test_interval_holds_its_estimate_and_repeats(scores: list[float]) -> None:
    first = statistics.iqm_interval(scores)
    assert first.low is not None and first.high is not None
    assert first.low <= first.estimate <= first.high
    assert min(scores) - 1e-9 <= first.estimate <= max(scores) + 1e-9
    assert first == statistics.iqm_interval(scores)
    if len(set(scores)) == 1:
        assert first.high - first.low == pytest.approx(0, abs=1e-9 * (1 + abs(scores[0])))


@FEW
@given(SCORES, st.sampled_from([0.5, 2.0, 1024.0]), st.sampled_from([0.0, -64.0, 4096.0]))
def test_shift_and_scale_carry_over(scores: list[float], scale: float, shift: float) -> None:
    before = statistics.iqm_interval(scores)
    after = statistics.iqm_interval(np.array(scores) * scale + shift)
    tolerance = 1e-7 * scale * (1 + max(map(abs, scores))) + 1e-9 * abs(shift)
    for x, y in zip(before, after, strict=True):
        assert x is not None and y == pytest.approx(x * scale + shift, abs=tolerance)


@FEW
@given(SCORES, st.data())
def test_swapping_sides_mirrors_every_comparison(a: list[float], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.sampled_from(a), min_size=len(a), max_size=len(a)))
    there, back = statistics.paired_difference(a, b), statistics.paired_difference(b, a)
    assert there.estimate == pytest.approx(-back.estimate)
    differences = np.subtract(a, b)
    assert statistics.sign_flip_p_value(differences) == statistics.sign_flip_p_value(-differences)
    assert statistics.win_rate(a, b) + statistics.win_rate(b, a) == pytest.approx(1.0)
    forward = statistics.paired_probability_of_improvement(a, b)
    assert forward.estimate + statistics.probability_of_improvement(b, a) == pytest.approx(1.0)
    assert forward.low is not None and forward.high is not None
    assert 0 <= forward.low <= forward.estimate <= forward.high <= 1


@FEW
@given(st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=7))
def test_sign_flips_match_enumeration(differences: list[float]) -> None:
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    far = sum(abs(np.dot(p, differences)) >= abs(sum(differences)) for p in patterns)
    assert statistics.sign_flip_p_value(differences) == far / len(patterns)


def test_pairing_removes_what_seeds_share() -> None:
    stream = generator(5, "test")
    shared = stream.normal(0, 100, 10)
    a = shared + 3 + stream.normal(0, 1, 10)
    paired = statistics.paired_difference(a, shared)
    assert paired.low is not None and 0 < paired.low < 3 < (paired.high or 0) + 1
    assert statistics.sign_flip_p_value(a - shared) == 2 / 2**10


@pytest.mark.parametrize(("seeds", "plain_at_most"), [(3, 0.80), (5, 0.93), (10, 0.97)])
def test_coverage(seeds: int, plain_at_most: float) -> None:
    """Intervals of an IQM cover 92 to 98.5% (standard error 0.6%), plain percentile ones less."""
    stream = generator(seeds, "test:coverage")
    draws = stream.gamma(2.0, size=(1200, seeds))
    truth = float(statistics.iqm(generator(0, "test:population").gamma(2.0, size=400_000)))
    found = [
        statistics.bootstrap([row], lambda s: statistics.iqm(s[0]), replicates=1500)
        for row in draws
    ]
    stretch = intervals._stretch((seeds,), 0.95)
    hits = plain = 0
    for estimate, low, high in found:
        assert low is not None and high is not None
        hits += low <= truth <= high
        down, up = (estimate - low) / stretch, (high - estimate) / stretch
        plain += estimate - down <= truth <= estimate + up
    assert 0.92 <= hits / len(draws) <= 0.985
    assert plain / len(draws) <= plain_at_most
    assert plain < hits
