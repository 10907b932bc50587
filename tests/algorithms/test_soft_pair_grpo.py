"""Soft-Pair-GRPO: its golden loss, and how it relates to GRPO."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, strategies as st
from pydantic import ValidationError

from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.soft_pair_grpo import SoftPairGRPO
from pairbench.policy import PolicyOutput
from tests.support.fixtures import LOGP, OLD, close, every_pair, fixture_f, fixture_f_pair, tensor


def test_golden_loss_of_a_pair() -> None:
    """Whole-response ratios 1.105171 and .8 (clipped): surrogate .152585; token k3 .008284.

    -.152585 + .01 x .008284 = -.152503.
    """
    batch, output = fixture_f_pair()
    for beta, expected in ((0.0, -0.152585), (0.01, -0.152503), (1.0, -0.152585 + 0.008284)):
        soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=2, ratio_level="trajectory", beta=beta))
        close(soft.loss(output, batch, soft.prepare(batch, 0.0, 0)).value, expected)


def test_the_divergence_to_the_sampler_is_exact_where_the_policy_gives_it() -> None:
    batch, output = fixture_f_pair()
    soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=2, ratio_level="trajectory", beta=0.5))
    exact = PolicyOutput(output.logp, kl_old=lambda: torch.full_like(output.logp, 0.2))
    loss = soft.loss(exact, batch, soft.prepare(batch, 0.0, 0)).value
    close(loss, -0.152585 + 0.1)


def test_rewards_of_all_pairs_are_the_mean_outcome_of_a_members_pairs() -> None:
    """F's scores order the rows 3 > 0 > 2 > 1: net wins [1, -3, -1, 3] of three pairs each."""
    batch, _ = fixture_f()
    soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=4))
    close(soft.advantages(batch), [1 / 3, -1.0, -1 / 3, 1.0], 1e-12)


def test_rewards_of_disjoint_pairs_are_plus_and_minus_one() -> None:
    batch, _ = fixture_f()
    soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=4, pairing="disjoint-pairs"))
    one_tie = replace(batch, pairs=torch.tensor([[3, 2]]))
    close(soft.advantages(one_tie), [0.0, 0.0, -1.0, 1.0], 1e-12)
    assert soft.needs.queries == "disjoint-pairs"


@given(st.integers(0, 2**31), st.integers(1, 5), st.floats(-1, 1))
def test_at_two_responses_it_is_grpo_with_population_std(
    seed: int, groups: int, move: float
) -> None:
    """Same loss and gradient away from pi_old too; with sample std GRPO's is 1 / sqrt 2 of it."""
    draws = torch.Generator().manual_seed(seed)
    rows = 2 * groups
    score = torch.randn(rows, generator=draws, dtype=torch.float64)
    old = torch.randn(rows, 3, generator=draws, dtype=torch.float64)
    assume(bool((score.view(-1, 2).diff(dim=1).abs() > 1e-6).all()))
    batch, _ = fixture_f_pair()
    batch = replace(
        batch,
        contexts=torch.zeros(rows, 3),
        responses=torch.zeros(rows, 3),
        mask=torch.ones_like(old),
        old_logp=old,
        ref_logp=None,
        group=torch.arange(groups).repeat_interleave(2),
        score=score,
        pairs=every_pair(score, 2),
    ).check()
    change = torch.randn(rows, 3, generator=draws, dtype=torch.float64)
    results = []
    for method in (
        SoftPairGRPO(SoftPairGRPO.Config(group_size=2, beta=0.0)),
        GRPO(GRPO.Config(group_size=2, beta=0.0, std="population", eps=0.0)),
        GRPO(GRPO.Config(group_size=2, beta=0.0, std="sample", eps=0.0)),
    ):
        logp = (old + move * change).requires_grad_()
        loss = method.loss(PolicyOutput(logp), batch, method.prepare(batch, 0.0, 0)).value
        results.append((loss.detach(), torch.autograd.grad(loss, logp)[0]))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(tuple(x / 2**0.5 for x in results[0]), results[2])


def test_the_trust_region_is_grpos() -> None:
    batch, _ = fixture_f()
    losses = []
    for region in (False, True):
        soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=4, trust_region=region, threshold=0.01))
        losses.append(soft.loss(PolicyOutput(LOGP), batch, soft.prepare(batch, 0.0, 0)).value)
    close(losses[1] - losses[0], 0.5 * (0.019892 - 0.01))


def test_a_gradient_step_raises_the_preferred_log_ratio() -> None:
    batch, _ = fixture_f_pair()
    soft = SoftPairGRPO(SoftPairGRPO.Config(group_size=2))
    logp = OLD[[3, 1]].clone().requires_grad_()
    loss = soft.loss(PolicyOutput(logp), batch, soft.prepare(batch, 0.0, 0)).value
    push = -torch.autograd.grad(loss, logp)[0].sum(1)
    close(push, tensor([0.5, -0.5]).tolist(), 1e-9)  # 1/2 of averaging


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="group_size"):
        SoftPairGRPO.Config(group_size=1)
    with pytest.raises(ValidationError, match="pairing"):
        SoftPairGRPO.Config.model_validate({"pairing": "some"})
