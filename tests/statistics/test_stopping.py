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
    higher = [10.0 + k for k in range(8)]
    assert not statistics.decided(higher[:7], [0.0] * 7)
    assert statistics.decided(higher, [0.0] * 8) and statistics.decided([0.0] * 8, higher)
    assert not statistics.decided([*higher[:7], -30.0], [0.0] * 8)


def test_a_look_needs_the_interval_too() -> None:
    """All eight seeds have one sign, but the difference may be next to nothing."""
    higher = [0.1, 0.1, 0.1, 5.0, 20.0, 40.0, 80.0, 90.0]
    assert statistics.swap_p_value(higher, [0.0] * 8) == 2 / 2**8
    assert not statistics.decided(higher, [0.0] * 8)


def test_no_more_seeds_than_were_simulated() -> None:
    with pytest.raises(ValueError, match="up to 30 seeds, not 31"):
        statistics.decided([1.0] * 31, [0.0] * 31)


def test_the_simulation_is_of_this_rule_and_calls_less_than_5_percent() -> None:
    assert (MEASURED["level"], MEASURED["seeds"], MEASURED["grids"]) == (PEEK, PEEKED, 2_000)
    assert (len(MEASURED["null"]), len(MEASURED["unlike"])) == (6, 5)
    for found in (MEASURED["null"] | MEASURED["unlike"]).values():
        assert found["called different"] <= 0.05 < found["at 5% a look"]


def test_equal_rows_are_seldom_called_different() -> None:
    """Two hundred pairs, looked at after each seed to the fourteenth: 5% and three errors more."""
    rows = generator(3, "test:stopping").normal(size=(200, 2, 14))
    called = sum(any(statistics.decided(a[:n], b[:n]) for n in range(8, 15)) for a, b in rows)
    assert called <= 200 * (0.05 + 3 * 0.016)


def test_the_page_says_the_rule() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "statistics.md"
    text = " ".join(page.read_text("utf-8").split())
    assert f"must reach p = {PEEK:g} in the swap test".replace("0.", ".") in text
    assert f"its interval of {1 - PEEK:.1%} must leave out zero" in text
    assert f"of a difference {statistics.EFFICIENCY:g} times as large".replace("0.", ".") in text
