"""CoRPO: the baseline is the group's mean, but never below the threshold."""

from __future__ import annotations

from pairbench.algorithms.corpo import CoRPO
from tests.support.fixtures import close
from tests.support.group_methods import on_f, pair_advantages, push


def test_golden_advantages() -> None:
    """methods.md E: scores [1, 0, .5, 2] with mean .875, threshold above and below it."""
    close(on_f(CoRPO, r_min=1.0)[0], [0.0, -1.0, -0.5, 1.0], 1e-12)
    close(on_f(CoRPO, r_min=0.5)[0], [0.125, -0.875, -0.375, 1.125], 1e-12)


def test_a_failed_response_is_never_reinforced() -> None:
    """The best of a group below the threshold is pushed down; GRPO would push it up."""
    assert bool((push(CoRPO, [-3.0, -2.0, -1.0, -0.5]) < 0).all())


def test_ties_and_pairs() -> None:
    """A tied group is left alone above the threshold and pushed down below it."""
    close(push(CoRPO, [0.3] * 4), [0.0] * 4, 1e-12)
    close(push(CoRPO, [-0.4] * 4), [-0.1] * 4, 1e-12)
    close(pair_advantages(CoRPO), [1.0, -1.0], 1e-12)
    close(pair_advantages(CoRPO, r_min=2.0), [0.0, -2.0], 1e-12)
