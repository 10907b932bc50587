"""Statistics over seeds: worked cases, invariances, and what the intervals really cover."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

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


def test_kendalls_tau_by_hand() -> None:
    # 1 2 4 3 against 1 2 3 4: five pairs in order, one not; the tie of the last is in neither
    assert statistics.kendall_tau([1.0, 2.0, 4.0, 3.0], [1, 2, 3, 4]) == pytest.approx(4 / 6)
    table = [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 3.0]]
    taus = statistics.kendall_tau(table, [1, 2, 3, 4])
    assert taus.tolist() == pytest.approx([1.0, -1.0, 5 / 6])
    found = statistics.rank_correlation(table, [1, 2, 3, 4])
    assert found.estimate == pytest.approx(5 / 18)
    assert found.low == -1.0 and found.high == 1.0  # cut to what a correlation can be
    assert statistics.rank_correlation(table[:1], [1, 2, 3, 4]) == (1.0, None, None)
    for wrong in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="two scores or more"):
            statistics.kendall_tau(wrong, wrong[:1])


def test_probability_of_improvement_by_hand() -> None:
    # pairs: 1>0, 1=1, 1<2; 3>0, 3>1, 3>2
    assert statistics.probability_of_improvement([1.0, 3.0], [0.0, 1.0, 2.0]) == 4.5 / 6


def test_student_quantiles_against_tables() -> None:
    for df, table in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)):
        assert statistics.student_t_quantile(0.975, df) == pytest.approx(table, abs=1e-4)
        assert statistics.student_t_quantile(0.025, df) == pytest.approx(-table, abs=1e-4)


def test_swaps_by_hand() -> None:
    """Of up to three seeds nothing is cut, so that it is the sign-flip test of their mean."""
    zero = [0.0, 0.0, 0.0]
    # Of the 8 ways to swap only none and all are as far from zero.
    assert statistics.swap_p_value([1.0, 2.0, 3.0], zero) == 0.25
    # |sum| >= 4 for: none (4), the first alone (6), and their mirror images.
    assert statistics.swap_p_value([-1.0, 2.0, 3.0], zero) == 0.5
    assert statistics.swap_p_value(zero, zero) == 1.0
    assert statistics.swap_p_value([5.0], [3.0]) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        statistics.swap_p_value([], [])
    with pytest.raises(ValueError, match="two equal rows"):
        statistics.swap_p_value([1.0], [1.0, 2.0])


def test_swaps_of_interquartile_means_by_hand() -> None:
    """Of four seeds the middle two count: (20 + 30) / 2 less (1 + 2) / 2 is 23.5.

    Swapping 99 and 3 gives 15 - 1.5, and any other less too: 2 of 16 ways. With 8 in the place of
    0, swapping 10 and 8 leaves both middles as they are: the means, nearer then, decide.
    """
    a = [10.0, 20.0, 30.0, 99.0]
    assert statistics.swap_p_value(a, [0.0, 1.0, 2.0, 3.0]) == 2 / 16
    b = [8.0, 1.0, 2.0, 0.0]
    assert statistics.iqm([8.0, *a[1:]]) - statistics.iqm([10.0, *b[1:]]) == 25.0 - 1.5
    assert statistics.iqm(a) - statistics.iqm(b) == 23.5
    assert statistics.swap_p_value(a, b) == 2 / 16
    # Means do not count for more: the difference of means is 0, of interquartile means 23.5.
    assert statistics.swap_p_value([10.0, 20.0, 30.0, -57.0], [0.0, 1.0, 2.0, 0.0]) < 1


def test_two_rows_are_told_apart_by_interval_and_test_together() -> None:
    assert statistics.told_apart(0.1, 2.0, 0.05) and statistics.told_apart(-2.0, -0.1, 0.01)
    for low, high, p_value in ((0.1, 2.0, 0.051), (-0.1, 2.0, 0.01), (0.0, 1.0, 0.01)):
        assert not statistics.told_apart(low, high, p_value)
    assert not statistics.told_apart(None, None, 0.0)
    assert not statistics.told_apart(0.1, 2.0, 0.02, 0.008)
    assert [statistics.least_p_value(n) for n in (1, 5, 6)] == [1.0, 0.0625, 0.03125]


def test_sampled_swaps_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = generator(3, "test").normal([[0.5], [0.0]], 1.0, (2, 12))
    exact = statistics.swap_p_value(a, b)
    monkeypatch.setattr(comparisons, "EXACT_SWAPS", 4)
    sampled = statistics.swap_p_value(a, b, draws=99_999)  # what was asked for before is kept
    assert 0.01 < exact < 0.9
    assert sampled == pytest.approx(exact, abs=0.006)  # four standard errors at 100,000 draws


GAP = -999.0
"""Stands for a gap where a function takes none."""


def stretched(plain: statistics.Estimate, counts: Sequence[int]) -> statistics.Estimate:
    """An interval of `bootstrap` as that of a mean without tails, of fewer degrees of freedom."""
    if plain.low is None or plain.high is None:
        return plain
    total = sum(counts)
    kept = total - 2 * (total // 4)
    more = intervals._stretch(tuple(counts), 0.95, kept) / intervals._stretch(tuple(counts), 0.95)
    middle, low, high = plain
    return statistics.Estimate(
        middle, middle + more * (low - middle), middle + more * (high - middle)
    )


def test_many_rows_at_once_are_as_one_by_one() -> None:
    """The same draws, so that a board does not depend on which rows are asked for together."""
    draw = generator(5, "test")
    rows = [draw.normal(size=count) for count in (7, 3, 7, 2, 7, 1)]
    gaps = draw.normal(size=(7, 3))
    gaps[2, 1] = np.nan
    tables = [*rows, draw.normal(size=(7, 3)), gaps]

    def gathered(strata: Sequence[statistics.Array]) -> statistics.Array:
        values = np.where(strata[0] == GAP, np.nan, strata[0])
        return np.asarray(np.nanmean(np.nanmean(values.reshape(*values.shape[:2], -1), 1), -1))

    for found, own in (
        (statistics.iqm_intervals(rows), [statistics.iqm_interval(row) for row in rows]),
        (statistics.mean_intervals(tables), [statistics.mean_interval(one) for one in tables]),
        (
            statistics.mean_intervals(tables),
            [statistics.bootstrap([np.nan_to_num(one, nan=GAP)], gathered) for one in tables],
        ),
        (
            statistics.iqm_intervals(rows),
            [
                stretched(statistics.bootstrap([row], lambda s: statistics.iqm(s[0])), [len(row)])
                for row in rows
            ],
        ),
    ):
        for one, other in zip(found, own, strict=True):
            assert (one.low is None) == (other.low is None)
            numbers = [[x for x in estimate if x is not None] for estimate in (one, other)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=1e-12)
    for wrong in (statistics.iqm_intervals, statistics.mean_intervals):
        with pytest.raises(ValueError, match="at least one"):
            wrong([[1.0], []])


def test_equal_scores_have_no_width() -> None:
    for own in (statistics.mean_interval([0.1] * 7), statistics.iqm_interval([0.1] * 7)):
        assert own.low == own.high == own.estimate == pytest.approx(0.1)


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
    pairs, other = list(enumerate(scores)), [(s**2 % 7, s) for s in scores]
    for rows in (pairs, other):
        order = list(rows)
        random.shuffle(order)  # type: ignore[attr-defined]
        a, b = (np.array(order, dtype=float).T, np.array(rows, dtype=float).T)
        assert statistics.swap_p_value(*a) == statistics.swap_p_value(*b)


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
    assert statistics.swap_p_value(a, b) == statistics.swap_p_value(b, a)
    assert statistics.win_rate(a, b) + statistics.win_rate(b, a) == pytest.approx(1.0)
    forward = statistics.paired_probability_of_improvement(a, b)
    assert forward.estimate + statistics.probability_of_improvement(b, a) == pytest.approx(1.0)
    assert forward.low is not None and forward.high is not None
    assert 0 <= forward.low <= forward.estimate <= forward.high <= 1


WHOLE = st.integers(-20, 20)


@FEW
@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=7))
def test_swaps_match_enumeration(pairs: list[tuple[int, int]]) -> None:

    def far(ways: Sequence[tuple[int, int]]) -> float:
        a, b = np.array(ways, dtype=float).T
        gap = statistics.iqm(a) - statistics.iqm(b) + comparisons.TIES * (a.mean() - b.mean())
        return abs(float(gap))

    patterns = list(itertools.product((False, True), repeat=len(pairs)))
    hits = sum(
        far([(b, a) if swap else (a, b) for (a, b), swap in zip(pairs, pattern, strict=True)])
        >= far(pairs) - 1e-8
        for pattern in patterns
    )
    a, b = np.array(pairs, dtype=float).T
    assert statistics.swap_p_value(a, b) == hits / len(patterns)


def test_medians_by_hand() -> None:
    assert statistics.median([3.0, 1.0, 2.0]) == 2.0
    assert statistics.median([4.0, 1.0, 2.0, 3.0]) == 2.5
    with pytest.raises(ValueError, match="no scores"):
        statistics.median([])


def test_optimality_gap_by_hand() -> None:
    assert statistics.optimality_gap([0.5, 1.5, 1.0]) == pytest.approx(0.5 / 3)
    assert statistics.optimality_gap([[3.0, 1.0], [9.0, 9.0]], target=4.0).tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="no scores"):
        statistics.optimality_gap([])


def test_performance_profile_by_hand() -> None:
    profile = statistics.performance_profile([0.0, 0.5, 1.0], [-1.0, 0.0, 0.4, 0.5, 1.0])
    assert profile.tolist() == pytest.approx([1.0, 2 / 3, 2 / 3, 1 / 3, 0.0])  # above, not at
    with pytest.raises(ValueError, match="no scores"):
        statistics.performance_profile([], [0.0])


def test_profile_bands_by_hand() -> None:
    """Wilson's interval of 0 of 4: from 0 to z^2 / (4 + z^2) = 3.8415 / 7.8415."""
    (none,) = statistics.profile_interval([[1.0, 2.0, 3.0, 4.0]], [4.0])
    assert none.estimate == none.low == 0.0 and none.high == pytest.approx(0.48989, abs=1e-5)
    # Two tasks weigh the same: 1/2 of (1 of 2) and 1/2 of (4 of 4), for 4 / (1/2 + 1/4) runs.
    (both,) = statistics.profile_interval([[0.0, 2.0], [2.0] * 4], [1.0])
    assert both.estimate == 0.75
    alone = statistics.profile_interval([[1.0]], [0.5])
    assert alone == [(1.0, None, None)]
    with pytest.raises(ValueError, match="at least one task"):
        statistics.profile_interval([], [0.0])


def test_holm_by_hand() -> None:
    # .005 x 4, .01 x 3, .03 x 2, and .04 x 1 is raised to the one before it.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert statistics.holm([0.7, 0.6]).tolist() == [1.0, 1.0]
    assert statistics.holm([]).size == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.holm([1.2])


def test_probability_of_improvement_keeps_a_width_where_all_runs_win() -> None:
    """At an estimate of 1 and n = 2 the end solves (1 - p)^2 = t^2 V(p): worked by hand below."""
    estimate, low, high = statistics.paired_probability_of_improvement([3.0, 4.0], [1.0, 2.0])
    assert estimate == high == 1.0 and low is not None
    more = (1 - low) / (2 - low) + low / (1 + low)
    assert (1 - low) ** 2 == pytest.approx(12.7062**2 * low * (1 - low) * (1 + more) / 4, rel=1e-5)
    assert statistics.paired_probability_of_improvement([3.0], [1.0]) == (1.0, None, None)


def test_stratified_means_without_tails_by_hand() -> None:
    one = [[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]]
    other = [[4.0, 5.0, 6.0, 7.0], [5.0, 5.0, 5.0, 5.0]]
    first, second = statistics.stratified_iqm([one, other])
    assert first.estimate == 3.5  # of 0..7 without the two lowest and highest
    assert second == (5.0, 5.0, 5.0)
    # Tasks weigh the same: the two scores of the first count twice each.
    (uneven,) = statistics.stratified_iqm([[[0.0, 1.0]], [[2.0, 3.0, 4.0, 5.0]]])
    assert uneven.estimate == statistics.iqm([0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert statistics.stratified_iqm([[[1.0]], [[2.0, 3.0]]])[0].low is None
    with pytest.raises(ValueError, match="at least one seed"):
        statistics.stratified_iqm([[[]]])
    with pytest.raises(ValueError, match="for each method"):
        statistics.stratified_iqm([[[1.0]], [[1.0], [2.0]]])


def test_counted_resamples_are_the_bootstrap() -> None:
    """The product form against the plain one: gather, pool, sort, average, on the same draws."""
    noise = generator(7, "test").normal(size=(3, 5))
    (quick,) = statistics.stratified_iqm([row[None] for row in noise], replicates=500)
    plain = statistics.bootstrap(
        list(noise), lambda s: statistics.iqm(np.concatenate(s, axis=-1)), replicates=500
    )
    assert tuple(quick) == pytest.approx(tuple(stretched(plain, [5, 5, 5])), abs=1e-12)


@FEW
@given(SCORES, SCORES, st.randoms(use_true_random=False), st.sampled_from([0.5, 4.0]))
def test_aggregates_of_tasks_keep_order_and_scale(
    a: list[float], b: list[float], random: object, scale: float
) -> None:
    shuffled = list(a)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = statistics.stratified_iqm([[a], [b]], replicates=200)
    assert first == statistics.stratified_iqm([[shuffled], [b]], replicates=200)
    scaled = statistics.stratified_iqm(
        [[[x * scale for x in a]], [[x * scale for x in b]]], replicates=200
    )
    size = 1e-9 * (1 + max(map(abs, a + b)))
    for x, y in zip(first[0], scaled[0], strict=True):
        assert x is not None and y == pytest.approx(x * scale, abs=size * scale)
    low, middle, high = sorted(x for x in first[0] if x is not None)
    assert (low, middle, high) == (first[0].low, first[0].estimate, first[0].high)
    assert statistics.optimality_gap(a, 5.0) * scale == pytest.approx(
        float(statistics.optimality_gap(np.multiply(a, scale), 5.0 * scale))
    )


@FEW
@given(SCORES)
def test_the_area_under_a_profile_is_a_mean(scores: list[float]) -> None:
    """Scores in whole numbers: the area from 0 to 8 is the sum of the shares above 0, 1, ... 7."""
    whole = np.round(np.array(scores) / 1000)
    profile = statistics.performance_profile(whole, np.arange(8.0))
    assert (np.diff(profile) <= 0).all()
    assert profile.sum() == pytest.approx(np.clip(whole, 0, 8).mean())
    for share, band in zip(profile, statistics.profile_interval([whole], np.arange(8.0))):
        assert band.low is not None and band.high is not None
        assert 0 <= band.low <= share + 1e-12 and share - 1e-12 <= band.high <= 1


@FEW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_corrected_p_values_keep_their_order(p_values: list[float], random: object) -> None:
    corrected = statistics.holm(p_values)
    assert (corrected >= p_values).all() and (corrected <= 1).all()
    assert corrected.min() == pytest.approx(min(1.0, min(p_values) * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
    shuffled = list(range(len(p_values)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = statistics.holm([p_values[k] for k in shuffled])
    assert again.tolist() == [corrected[k] for k in shuffled]


def test_pairing_removes_what_seeds_share() -> None:
    stream = generator(5, "test")
    shared = stream.normal(0, 100, 10)
    a = shared + 3 + stream.normal(0, 1, 10)
    paired = statistics.paired_difference(a, shared)
    assert paired.low is not None and 0 < paired.low < 3 < (paired.high or 0) + 1
    assert statistics.swap_p_value(a, shared) == 2 / 2**10


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
