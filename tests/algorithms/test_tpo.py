"""TPO: golden target and cross-entropy, its gradient, bases and ties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench.algorithms.tpo import TPO
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, close, fixture_f, fixture_f_pair, tensor
from tests.support.two_steps import two_steps


def make(**settings: Any) -> TPO:
    return TPO(TPO.Config(**{"group_size": 4, **settings}))


def test_golden_target_and_loss() -> None:
    """p_old the softmax of S_old = [-3.5, -1.6, -.8, -2.9] on fixture F.

    u = [.169031, -1.183216, -.507093, 1.521278]; the loss is the cross-entropy of q
    and the softmax of S = [-3.5, -1.9, -.3, -2.8].
    """
    batch, output = fixture_f()
    method = make()
    signal = method.prepare(batch, 0.0, 0)
    close(signal["target"], [0.057665, 0.099724, 0.436388, 0.406223])
    close(method.loss(output, batch, signal).value, 1.640863)


@pytest.mark.parametrize("base", ["restricted", "snis"])
def test_the_gradient_in_the_groups_logits_is_p_less_q(base: str) -> None:
    batch, _ = fixture_f()
    method = make(base=base)
    signal = method.prepare(batch, 0.0, 0)
    logp = OLD.clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), batch, signal).value
    slope = torch.autograd.grad(loss, logp)[0][:, 0]
    torch.testing.assert_close(slope, signal["log_base"].exp() - signal["target"])


def test_a_pair_over_a_uniform_base_is_one_logistic_number() -> None:
    """u = [1, -1] at G = 2, so q = sigmoid(2) = .880797."""
    batch, _ = fixture_f_pair()
    target = make(group_size=2, base="snis").prepare(batch, 0.0, 0)["target"]
    close(target, [0.880797, 0.119203])


def test_the_cross_entropy_is_a_mean_over_groups() -> None:
    batch, output = fixture_f()
    two = replace(batch, group=torch.tensor([0, 0, 1, 1]), pairs=None).check()
    method = make(group_size=2)
    signal = method.prepare(two, 0.0, 0)
    q, log_p = signal["target"].view(2, 2), tensor([[-3.5, -1.9], [-0.3, -2.8]]).log_softmax(1)
    expected = -(q * log_p).sum(1).mean()
    torch.testing.assert_close(method.loss(output, two, signal).value, expected)


@pytest.mark.parametrize("base", ["restricted", "snis"])
def test_a_tied_group_asks_for_nothing(base: str) -> None:
    batch, _ = fixture_f()
    tied = replace(batch, score=tensor([0.5] * 4))
    method = make(base=base)
    logp = OLD.clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), tied, method.prepare(tied, 0.0, 0)).value
    assert torch.autograd.grad(loss, logp)[0].abs().max() < 1e-12


@pytest.mark.parametrize("base", ["restricted", "snis"])
def test_two_steps_on_the_bandit(base: str) -> None:
    two_steps(TPO, base=base)
