"""How many seeds a difference needs, from what two rows have shown."""

from __future__ import annotations

import numpy as np
import pytest

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard import compare
from pairbench.leaderboard.power import plan_seeds
from tests.support.records import record

TASK = "halfcheetah-v4"
GAPS = [10.0, -20.0, 35.0, 5.0, 0.0]
RECORDS = [
    record(name, seed, algorithm=name, scores=[level - 1, level + 1])
    for seed, gap in enumerate(GAPS)
    for name, level in (("a", 100.0 * seed + gap), ("b", 100.0 * seed))
]


def test_it_is_the_plan_of_the_paired_t_test() -> None:
    pair = compare(RECORDS, "a", "b", TASK)
    found = plan_seeds(pair, -15.0)
    deviation = float(np.std(GAPS, ddof=1))
    assert found.deviation == pytest.approx(deviation, rel=1e-4)
    assert found.seeds == statistics.seeds_needed(15.0, deviation)
    assert found.detectable == pytest.approx(pair.minimum_detectable_difference, rel=1e-4)
    assert found.few is not None and found.seeds is not None and found.many is not None
    assert found.few < found.seeds < found.many
    assert f"80% power by {found.seeds} shared seeds ({found.few} to {found.many}," in found.said()
    more = plan_seeds(pair, 15.0, power=0.95)
    assert more.seeds is not None and more.seeds > found.seeds
    assert "over 10,000" in plan_seeds(pair, 1e-3).said()


@pytest.mark.parametrize(("effect", "power"), [(0.0, 0.8), (float("nan"), 0.8), (1.0, 1.0)])
def test_nothing_to_find_is_refused(effect: float, power: float) -> None:
    with pytest.raises(PairBenchError, match="--effect other than 0"):
        plan_seeds(compare(RECORDS, "a", "b", TASK), effect, power)


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(PairBenchError, match="share one seed"):
        plan_seeds(compare(RECORDS[:2], "a", "b", TASK), 1.0)
