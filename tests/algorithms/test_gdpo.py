"""GDPO: golden advantages, ties, weights, and the label each component costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pairbench import objectives as o
from pairbench.algorithms.gdpo import GDPO
from pairbench.algorithms.grpo import GRPO
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from tests.support.fixtures import SCORE, close, fixture_f, tensor
from tests.support.two_steps import two_steps


def of_pairs() -> Batch:
    """Returns two groups of two whose components are {[1, 0], [0, 1]} and {[1, 1], [0, 0]}."""
    return Batch(
        contexts=torch.zeros(4, 1, dtype=torch.int64),
        responses=torch.zeros(4, 1, dtype=torch.int64),
        mask=tensor([[1.0]] * 4),
        old_logp=tensor([[0.0]] * 4),
        group=torch.tensor([0, 0, 1, 1]),
        components=tensor([[1, 0], [0, 1], [1, 1], [0, 0]]),
    ).check()


def test_golden_advantages() -> None:
    """The parts of the first group cancel, those of the second add up.

    (1 - .5) / (.707107 + 1e-4) = .707007 twice is 1.414013; over 1.154537 + 1e-4, the sample
    standard deviation of [0, 0, 1.414013, -1.414013], that is 1.224639.
    """
    method = GDPO(GDPO.Config(group_size=2, beta=0.0))
    advantage = method.prepare(of_pairs(), 0.0, 0)["advantage"][:, 0]
    close(advantage, [0.0, 0.0, 1.224639, -1.224639])


def test_one_component_is_grpo_over_the_batchs_standard_deviation() -> None:
    """Fixture F: TRL's advantages, sample std 1 of one group but for eps."""
    batch, _ = fixture_f()
    method = GDPO(GDPO.Config(group_size=4, eps=0.0))
    one = replace(batch, score=None, components=SCORE.unsqueeze(1))
    expected = GRPO(GRPO.Config(group_size=4, eps=0.0)).advantages(batch)
    torch.testing.assert_close(method.advantages(one), expected)


def test_a_weight_of_zero_leaves_a_component_out() -> None:
    method = GDPO(GDPO.Config(group_size=2, weights=(1.0, 0.0), eps=0.0))
    close(method.advantages(of_pairs()), [0.866025, -0.866025, 0.866025, -0.866025])


@pytest.mark.parametrize("size", [2, 4])
def test_groups_tied_in_every_component_ask_for_nothing(size: int) -> None:
    tied = tensor([[0.3, 7.1]] * 4)
    advantage = o.decoupled_advantages(tied, tensor([1.0, 1.0]), size, "sample", 1e-4)
    close(advantage, [0.0] * 4, 1e-12)


def test_what_it_needs_and_says() -> None:
    method = GDPO(GDPO.Config(group_size=2))
    assert method.needs.components
    assert method.regime == "on-policy groups, several scores"
    three = GDPO(GDPO.Config(group_size=2, weights=(1.0, 1.0, 1.0)))
    with pytest.raises(PairBenchError, match="weights has 3 numbers"):
        three.prepare(of_pairs(), 0.0, 0)


def test_two_steps_on_the_bandit_count_a_label_per_component() -> None:
    cost = two_steps(GDPO).cost
    assert cost.scores == 2 * cost.steps
