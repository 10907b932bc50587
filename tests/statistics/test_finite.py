"""No public statistic takes NaN or infinity for a score: each says so in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pairbench import statistics as s

ROW, OTHER = [1.0, 2.0, 4.0, 7.0], [2.0, 1.0, 3.0, 9.0]
TABLE = [ROW, OTHER, ROW]
WINS = [[0.0, 2.0], [1.0, 0.0]]

CASES: dict[str, tuple[Any, ...]] = {
    "bootstrap": ([ROW], lambda strata: s.iqm(strata[0])),
    "bradley_terry": (WINS,),
    "bradley_terry_intervals": ([WINS, WINS, WINS],),
    "conditional_value_at_risk": (ROW,),
    "decided": (ROW, OTHER),
    "detectable_shift": (4, 0.8),
    "differences": (ROW,),
    "dispersion_across_runs": (TABLE,),
    "dispersion_across_time": (ROW,),
    "holm": ([0.1, 0.4],),
    "iqm": (ROW,),
    "iqm_differences": ([ROW, OTHER], ((0, 1),)),
    "iqm_interval": (ROW,),
    "iqm_intervals": (TABLE,),
    "kendall_tau": (ROW, OTHER),
    "kept_degrees": (6,),
    "least_p_value": (6,),
    "mean_interval": (ROW,),
    "mean_intervals": (TABLE,),
    "median": (ROW,),
    "minimum_detectable_difference": (ROW, OTHER),
    "optimality_gap": (ROW, 8.0),
    "paired_difference": (ROW, OTHER),
    "paired_iqm_difference": (ROW, OTHER),
    "paired_probability_of_improvement": (ROW, OTHER),
    "performance_profile": (ROW, [1.0, 3.0]),
    "power_of_t_test": (2.0, 4),
    "probability_of_improvement": (ROW, OTHER),
    "profile_interval": ([ROW, OTHER], [1.0, 3.0]),
    "rank_correlation": (TABLE, ROW),
    "risk_across_runs": (ROW,),
    "seeds_needed": (1.0, 2.0),
    "short_term_risk": (ROW,),
    "stratified_iqm": ([TABLE, TABLE],),
    "student_t_quantile": (0.975, 4),
    "swap_p_value": (ROW, OTHER),
    "swap_p_values": ([(ROW, OTHER)],),
    "told_apart": (0.5, 2.0, 0.01),
    "win_rate": (ROW, OTHER),
}


def call(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(s, name)
    return found


def test_every_function_is_here() -> None:
    assert {*CASES, "Array", "EFFICIENCY", "Estimate", "POWER"} == set(s.__all__)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_may_be_missing(name: str, value: float) -> None:
    arguments = CASES[name]
    call(name)(*arguments)
    for place, argument in enumerate(arguments):
        if callable(argument) or isinstance(argument, int | tuple):
            continue
        spoilt = np.array(argument, dtype=np.float64)
        for where in (0, spoilt.size - 1):
            other = spoilt.copy()
            other.reshape(-1)[where] = value
            if np.ndim(argument) == 0:
                other = float(other)  # type: ignore[assignment]
            with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
                call(name)(*arguments[:place], other, *arguments[place + 1 :])


def test_a_table_of_opponents_may_have_gaps() -> None:
    gaps = np.array([[1.0, np.nan], [2.0, 3.0], [0.0, 1.0]])
    assert s.mean_interval(gaps).estimate == 1.5
    gaps[0, 0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        s.mean_interval(gaps)
