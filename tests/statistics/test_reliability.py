"""Dispersion and risk of learning curves: worked cases and what must not move them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pairbench import statistics

CURVES = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=12)
FEW = settings(max_examples=60, deadline=None)


def test_changes_along_a_curve_by_hand() -> None:
    assert statistics.differences([1.0, 4.0, 2.0]).tolist() == [3.0, -2.0]
    with pytest.raises(ValueError, match="at least two points"):
        statistics.differences([1.0])


def test_values_at_risk_by_hand() -> None:
    values = np.arange(1.0, 21.0)
    # The 10% quantile of 1..20 is 1 + 0.1 x 19 = 2.9: below it lie 1 and 2.
    assert statistics.conditional_value_at_risk(values, 0.1) == 1.5
    assert statistics.conditional_value_at_risk(values) == 1.0
    assert statistics.conditional_value_at_risk(values, 1.0) == 10.5
    for bad in ([], [1.0]):
        with pytest.raises(ValueError, match="value at risk"):
            statistics.conditional_value_at_risk(bad, 0.0 if bad else 0.05)


def test_measures_of_one_run_by_hand() -> None:
    curve = [0.0, 4.0, 3.0, 6.0, 2.0]  # changes 4, -1, 3, -4
    # Quartiles of -4, -1, 3, 4 lie a quarter of the way from their neighbours: -1.75 and 3.25.
    assert statistics.dispersion_across_time(curve) == 5.0
    assert statistics.short_term_risk(curve) == -4.0
    assert statistics.short_term_risk(curve, tail=0.5) == -2.5


def test_measures_across_runs_by_hand() -> None:
    curves = [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0], [0.0, 5.0]]
    assert statistics.dispersion_across_runs(curves).tolist() == [0.0, 2.0]
    assert statistics.risk_across_runs([3.0, -1.0, 5.0]) == -1.0
    with pytest.raises(ValueError, match="equal length"):
        statistics.dispersion_across_runs([])


@FEW
@given(CURVES, st.integers(-9, 9).map(float), st.sampled_from([0.5, 2.0, 8.0]))
def test_a_trend_is_no_dispersion_and_scale_carries_over(
    curve: list[float], slope: float, scale: float
) -> None:
    values = np.array(curve)
    trend = slope * np.arange(len(values))
    jitter = statistics.dispersion_across_time(values)
    assert statistics.dispersion_across_time(values + trend + 7) == pytest.approx(jitter, abs=1e-9)
    assert statistics.dispersion_across_time(trend) == 0.0
    assert statistics.dispersion_across_time(values * scale) == jitter * scale
    assert statistics.short_term_risk(values * scale) == statistics.short_term_risk(values) * scale
    assert statistics.short_term_risk(values + 7) == statistics.short_term_risk(values)


@FEW
@given(st.lists(CURVES.map(lambda c: c[:3]), min_size=2, max_size=6), st.data())
def test_the_order_of_runs_changes_nothing(curves: list[list[float]], data: st.DataObject) -> None:
    again = data.draw(st.permutations(curves))
    spread = statistics.dispersion_across_runs(curves)
    assert spread.tolist() == statistics.dispersion_across_runs(again).tolist()
    final = [curve[-1] for curve in curves]
    assert statistics.risk_across_runs(final) == min(final)
    assert statistics.risk_across_runs(final, 1.0) == pytest.approx(np.mean(final))
