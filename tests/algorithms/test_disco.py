"""DISCO: golden weights and advantages, its forms, and scores it cannot divide by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench.algorithms.disco import DISCO
from pairbench.algorithms.grpo import GRPO
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from tests.support.fixtures import close, fixture_f, tensor
from tests.support.two_steps import two_steps


def answered(share: float | None = 0.0833) -> Batch:
    """Returns fixture F with answers right, wrong, right, right."""
    batch, _ = fixture_f()
    domain = None if share is None else tensor([share] * 4)
    return replace(batch, score=tensor([1, 0, 1, 1]), domain_share=domain).check()


def make(**settings: Any) -> DISCO:
    return DISCO(DISCO.Config(**{"group_size": 4, "beta": 0.0, **settings}))


def test_golden_advantages() -> None:
    """p_d .0833 and SC .75.

    log(1 + 1 / .0833) = 2.565319 times 1 / .75001 = 1.333316 is 3.420379; r - .75 times that.
    """
    method, batch = make(), answered()
    weight = method.domain_weight(batch) * method.difficulty_weight(batch)
    close(weight, [3.420379] * 4)
    advantage = method.prepare(batch, 0.0, 0)["advantage"][:, 0]
    close(advantage, [0.855095, -2.565284, 0.855095, 0.855095])


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("log", math.log(5.0)),
        ("log-squared", math.log(5.0) ** 2),
        ("inverse", 4.0),
        ("none", 1.0),
    ],
)
def test_forms_of_the_domains_weight(domain: str, expected: float) -> None:
    close(make(domain=domain).domain_weight(answered(0.25)), [expected] * 4)


def test_a_task_without_domains_is_one() -> None:
    close(make().domain_weight(answered(None)), [math.log(2.0)] * 4)


def test_without_weights_it_is_grpo_without_a_standard_deviation() -> None:
    batch, _ = fixture_f()
    plain = make(domain="none", difficulty="none").advantages(batch)
    torch.testing.assert_close(plain, GRPO(GRPO.Config(group_size=4, std="none")).advantages(batch))


def test_scores_of_any_unit_have_a_logistic_difficulty() -> None:
    """Two groups, [0, 2] and [4, 6]: z = +-1.161895 and +-.387298; a shift or scale is nothing.

    To 2e-4, for the 1e-5 added to both divisors.
    """
    batch = replace(answered(None), group=torch.tensor([0, 0, 1, 1]), pairs=None)
    method = make(group_size=2, difficulty="logistic")
    first = method.difficulty_weight(replace(batch, score=tensor([0, 2, 4, 6])))

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    low = (sigmoid(-1.161895) + sigmoid(-0.387298)) / 2
    close(first, [1 / low, 1 / low, 1 / (1 - low), 1 / (1 - low)], 2e-4)
    other = method.difficulty_weight(replace(batch, score=tensor([-50, 150, 350, 550])))
    torch.testing.assert_close(first, other, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_a_tied_group_asks_for_nothing_however_hard(size: int, answer: float) -> None:
    batch = replace(
        answered(), score=tensor([answer] * 4), group=torch.arange(4) // size, pairs=None
    )
    close(make(group_size=size).advantages(batch), [0.0] * 4, 0.0)


def test_scores_beyond_right_and_wrong_are_refused_in_words() -> None:
    batch, _ = fixture_f()
    with pytest.raises(PairBenchError, match="not all in \\[0, 1\\]"):
        make().prepare(batch, 0.0, 0)


def test_two_steps_on_the_bandit() -> None:
    two_steps(DISCO)
