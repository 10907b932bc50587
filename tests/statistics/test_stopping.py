"""The stopping rule: what it needs at least, what it refuses, and the simulation it rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairbench import statistics
from pairbench.seeding import generator
from pairbench.statistics.stopping import PEEK, PEEKED

MEASURED = json.loads(
    (Path(__file__).resolve().parents[2] / "benchmarks" / "stopping.json").read_text("utf-8")
)


def test_eight_seeds_of_one_sign_decide_and_seven_do_not() -> None:
    assert not statistics.decided([1.0 + k for k in range(7)])
    assert statistics.decided([1.0 + k for k in range(8)])
    assert not statistics.decided([*range(1, 8), -30.0])


def test_no_more_seeds_than_were_simulated() -> None:
    with pytest.raises(ValueError, match="up to 30 seeds, not 31"):
        statistics.decided([1.0] * 31)


def test_the_simulation_is_of_this_rule_and_calls_less_than_5_percent() -> None:
    assert (MEASURED["level"], MEASURED["seeds"], MEASURED["grids"]) == (PEEK, PEEKED, 2_000)
    assert len(MEASURED["null"]) == 5
    for found in MEASURED["null"].values():
        assert found["called different"] <= 0.05 < found["at 5% a look"]


def test_equal_rows_are_seldom_called_different() -> None:
    """Two hundred pairs, looked at after each seed to the sixteenth: 5% and three errors more."""
    gaps = generator(3, "test:stopping").normal(size=(200, 16))
    called = sum(any(statistics.decided(row[:n]) for n in range(8, 17)) for row in gaps)
    assert called <= 200 * (0.05 + 3 * 0.016)
