"""RLOO: leave-one-out advantages with and without the KL in the score, and TRL's loss."""

from __future__ import annotations

from pairbench.algorithms.rloo import RLOO
from tests.support.fixtures import SCORE, close
from tests.support.group_methods import on_f, pair_advantages, push


def test_golden_advantages_and_loss() -> None:
    """methods.md E, TRL's RLOOTrainer: beta .05 takes off .05 x (S_old - S_ref)."""
    close(on_f(RLOO, kl_reward=0.0)[0], [0.166667, -1.166667, -0.5, 1.5])
    advantage, loss = on_f(RLOO)
    close(advantage, [0.161667, -1.185, -0.478333, 1.501667])
    close(loss, -0.021157)


def test_the_baseline_is_the_mean_of_the_others() -> None:
    others = [(float(SCORE.sum()) - float(r)) / 3 for r in SCORE]
    close(on_f(RLOO, kl_reward=0.0)[0], [float(r) - b for r, b in zip(SCORE, others)], 1e-12)


def test_ties_and_pairs() -> None:
    """Rows 3 and 1 have scores 2 and 0 and S_old = S_ref + 0 and + .3."""
    close(push(RLOO, [0.3] * 4, kl_reward=0.0), [0.0] * 4, 0.0)
    close(pair_advantages(RLOO, kl_reward=0.0), [2.0, -2.0], 1e-12)
    close(pair_advantages(RLOO), [2.0 + 0.05 * 0.3, -2.0 - 0.05 * 0.3], 1e-12)


def test_tied_scores_still_ask_for_less_divergence() -> None:
    """S_old - S_ref = [.1, .3, -.3, 0]: the row with most of it is pushed down, with least, up."""
    asked = push(RLOO, [0.3] * 4)
    assert asked.argmin() == 1 and asked.argmax() == 2


def test_the_reference_is_needed_where_the_kl_is() -> None:
    assert RLOO(RLOO.Config()).needs.reference
    assert not RLOO(RLOO.Config(kl_reward=0.0)).needs.reference
    assert RLOO(RLOO.Config(kl_reward=0.0, beta=0.1)).needs.reference
