"""The reference, the rewards and the optimum, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pairbench.language.exact.llama import Shape, SmallLlama
from pairbench.language.exact.problem import (
    best_of,
    fine_tune,
    grammar,
    reference,
    rewards,
    tilted,
)
from pairbench.language.exact.space import Space
from pairbench.seeding import generator

SPACE = Space(3, 4, 6)


def test_rewards_have_mean_0_in_each_context_and_variance_1_under_the_reference() -> None:
    base = grammar(SPACE, 0)
    reward = rewards(base, generator(4, "reward"))
    weight = base.log.exp()
    torch.testing.assert_close(weight.sum(1), torch.ones(6).double())
    mean = (weight * reward).sum(1)
    torch.testing.assert_close(mean, torch.zeros(6).double(), atol=1e-12, rtol=0)
    assert float((weight * reward.square()).sum(1).mean()) == pytest.approx(1.0)
    assert torch.equal(reward, rewards(base, generator(4, "reward")))
    assert not torch.equal(reward, rewards(base, generator(5, "reward")))


def test_the_optimum_has_its_value_and_nothing_near_it_has_more() -> None:
    base, beta = grammar(SPACE, 0), 0.5
    reward = rewards(base, generator(0, "reward"))
    best, value = tilted(base, reward, beta)

    def objective(log: torch.Tensor) -> torch.Tensor:
        return (log.exp() * (reward - beta * (log - base.log))).sum(1)

    torch.testing.assert_close(objective(best.log), value)
    for seed in range(5):
        moved = best.log + 0.1 * torch.from_numpy(np.random.default_rng(seed).normal(size=(6, 81)))
        assert bool((objective(moved.log_softmax(1)) < value).all())


def test_best_of_n_is_the_distribution_of_the_best_draw() -> None:
    base = grammar(SPACE, 0)
    reward = rewards(base, generator(0, "reward")).round(decimals=1)  # with ties
    torch.testing.assert_close(best_of(base, reward, 1).log, base.log)
    best = best_of(base, reward, 4)
    torch.testing.assert_close(best.log.exp().sum(1), torch.ones(6).double())
    draw, count = np.random.default_rng(0), 20_000
    responses, _ = base.sample(torch.full((4 * count,), 2), draw)
    most = reward[2, SPACE.numbers(responses)].view(count, 4).amax(1)
    exact = float(best.log[2].exp() @ reward[2])
    assert abs(float(most.mean()) - exact) < 3 * float(most.std()) / math.sqrt(count)


def test_fine_tuning_approaches_its_teacher_and_repeats_bit_for_bit() -> None:
    teacher = grammar(SPACE, 0)

    def tuned() -> SmallLlama:
        policy = SmallLlama(SPACE, Shape(width=16).initial(3, generator(0, "init")), False, SMALL)
        fine_tune(policy, teacher, 60, 0)
        return policy

    one = tuned()
    assert torch.equal(one.flat, tuned().flat)
    log = one.enumerate()
    divergence = float((teacher.log.exp() * (teacher.log - log)).sum(1).mean())
    uniform = float((teacher.log.exp() * (teacher.log + math.log(81))).sum(1).mean())
    assert divergence < 0.5 * uniform


SMALL = Shape(width=16)


def test_the_reference_that_is_part_of_the_package() -> None:
    """Entropy and divergence from the grammar, as when it was made."""
    flat, table = reference(Space(), 0)
    assert flat.shape == (82_496,)
    probability = table.log.exp()
    assert float(-(probability * table.log).sum(1).mean()) == pytest.approx(5.951, abs=0.001)
    log = grammar(Space(), 0).log
    assert float((log.exp() * (log - table.log)).sum(1).mean()) == pytest.approx(0.121, abs=0.001)
