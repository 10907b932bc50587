"""What seeds can show: published powers of t-tests, and a simulation of the plan they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pairbench import statistics
from pairbench.seeding import generator

FEW = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize(
    ("effect", "seeds"),
    [(0.2, 199), (0.5, 34), (0.8, 15)],  # of one sample, two-sided .05, as G*Power 3.1 prints them
)
def test_published_numbers_of_seeds(effect: float, seeds: int) -> None:
    """Of the t-test, from which the plan of our rule is made."""
    found = [statistics.power_of_t_test(effect * n**0.5, n - 1) for n in (seeds - 1, seeds)]
    assert found[0] < 0.8 <= found[1]


def test_the_plan_is_that_of_a_t_test_with_fewer_degrees_of_freedom() -> None:
    """Of eight seeds four scores are kept, of eleven seven: 0.87 sqrt(11) is 2.89 errors."""
    assert [statistics.kept_degrees(n) for n in (2, 3, 5, 8, 10, 11)] == [1, 2, 3, 4, 6, 7]
    for n, enough in ((10, False), (11, True)):
        shift = 1.2 * statistics.EFFICIENCY * n**0.5
        power = statistics.power_of_t_test(shift, statistics.kept_degrees(n))
        assert (power >= 0.8) is enough
    assert statistics.seeds_needed(1.2, 1.0) == statistics.seeds_needed(-3.6, 3.0) == 11


def test_published_powers() -> None:
    assert statistics.power_of_t_test(0.5 * 34**0.5, 33) == pytest.approx(0.8078, abs=1e-4)
    assert statistics.power_of_t_test(0.5 * 32**0.5, 126) == pytest.approx(0.8015, abs=1e-4)
    for df in (1, 4, 30):
        assert statistics.power_of_t_test(0.0, df) == pytest.approx(0.05, abs=1e-5)
    with pytest.raises(ValueError, match="degree of freedom"):
        statistics.power_of_t_test(1.0, 0)
    with pytest.raises(ValueError, match="false alarm"):
        statistics.detectable_shift(4, power=0.04)


def test_minimum_detectable_difference_by_hand() -> None:
    """Differences 1, 2, 3 have deviation 1: a standard error of 1 / sqrt(3) at two df."""
    shift = statistics.detectable_shift(2)
    assert statistics.power_of_t_test(shift, 2) == pytest.approx(0.8, abs=1e-6)
    a, b = [11.0, 22.0, 33.0], [10.0, 20.0, 30.0]
    paired = statistics.minimum_detectable_difference(a, b)
    assert paired == pytest.approx(shift / 3**0.5 / statistics.EFFICIENCY)
    for one, other in (([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])):
        with pytest.raises(ValueError, match="seeds"):
            statistics.minimum_detectable_difference(one, other)


def test_seeds_at_the_ends() -> None:
    assert statistics.seeds_needed(0.0, 1.0) is None
    assert statistics.seeds_needed(1e-6, 1.0) is None
    assert statistics.seeds_needed(9.0, 0.0) == 6  # 2 / 2^5 is above 5%, 2 / 2^6 is not
    assert statistics.seeds_needed(9.0, 0.1) == 6
    with pytest.raises(ValueError, match="finite"):
        statistics.seeds_needed(float("nan"), 1.0)


@FEW
@given(
    st.lists(st.integers(-30, 30).map(float), min_size=3, max_size=8),
    st.randoms(use_true_random=False),
)
def test_scale_order_and_the_two_functions_agree(scores: list[float], random: object) -> None:
    a, b = np.array(scores), np.arange(len(scores)) ** 1.5
    detectable = statistics.minimum_detectable_difference(a, b)
    order = list(range(len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = statistics.minimum_detectable_difference(b[order], a[order])
    assert again == pytest.approx(detectable)
    assert statistics.minimum_detectable_difference(4 * a, 4 * b) == pytest.approx(4 * detectable)
    deviation = float(np.std(a - b, ddof=1))
    needed = statistics.seeds_needed(detectable * 1.0001, deviation)
    assert needed is not None and needed <= max(
        len(scores), 6
    )  # of eight no more is kept than of 6


def test_the_plan_holds_in_a_simulation() -> None:
    """At the seeds planned for 80% the rule finds about as many (standard error 2%)."""
    effect = 1.2
    seeds = statistics.seeds_needed(effect, 1.0)
    assert seeds == 11
    a, b = generator(2, "test:power").normal(0.0, 0.5**0.5, (2, 400, seeds))
    a += effect
    gaps = statistics.iqm_differences(np.concatenate([a, b]), [(k, 400 + k) for k in range(400)])
    p_values = statistics.swap_p_values(list(zip(a, b, strict=True)))
    found = [statistics.told_apart(g.low, g.high, p) for g, p in zip(gaps, p_values, strict=True)]
    assert 0.74 <= np.mean(found) <= 0.88
