"""BRAIn: golden posterior and divergence, its gradient, and extreme scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench.algorithms.brain import BRAIn
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, close, fixture_f, fixture_f_pair, tensor
from tests.support.two_steps import two_steps


def make(**settings: Any) -> BRAIn:
    return BRAIn(BRAIn.Config(**{"group_size": 4, **settings}))


def test_golden_posterior_and_loss() -> None:
    """Alpha of r + S_ref - S_old = [.9, -.3, .8, 2.0] on fixture F.

    p = [.222484, .164820, .366814, .245883] is the softmax of S - S_old.
    """
    batch, output = fixture_f()
    method = make()
    signal = method.prepare(batch, 0.0, 0)
    close(signal["target"], [0.191931, 0.057809, 0.173667, 0.576593])
    close(method.loss(output, batch, signal).value, 0.272649)


def test_the_gradient_at_the_sampler_is_alpha_less_uniform() -> None:
    batch, _ = fixture_f()
    method = make()
    signal = method.prepare(batch, 0.0, 0)
    logp = OLD.clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), batch, signal).value
    push = -torch.autograd.grad(loss, logp)[0][:, 0]
    torch.testing.assert_close(push, signal["target"] - 0.25)


def test_a_pair_at_low_temperature_is_the_argmax() -> None:
    """DPO-sft's limit: all mass on the better of two."""
    batch, _ = fixture_f_pair()
    target = make(group_size=2, beta=0.01).prepare(batch, 0.0, 0)["target"]
    close(target, [1.0, 0.0], 1e-12)


def test_equal_scores_ask_for_nothing_of_the_sampler_and_for_the_reference_of_the_prior() -> None:
    batch, _ = fixture_f()
    tied = replace(batch, score=tensor([0.5] * 4))
    close(make(prior="sampler").prepare(tied, 0.0, 0)["target"], [0.25] * 4, 1e-12)
    weights = tensor([-0.1, -0.3, 0.3, 0.0]).softmax(0)  # S_ref - S_old
    torch.testing.assert_close(make().prepare(tied, 0.0, 0)["target"], weights)


def test_a_response_without_a_chance_leaves_the_loss_finite() -> None:
    batch, output = fixture_f()
    single = replace(
        batch,
        mask=batch.mask.float(),
        old_logp=batch.old_logp.float(),
        score=torch.tensor([0.0, 1e4, -1e4, 0.0]),
    )
    method = make(prior="sampler")
    logp = output.logp.detach().float().requires_grad_()
    loss = method.loss(PolicyOutput(logp), single, method.prepare(single, 0.0, 0)).value
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(torch.autograd.grad(loss, logp)[0]).all())


def test_what_it_needs() -> None:
    assert make().needs.reference
    assert not make(prior="sampler").needs.reference


@pytest.mark.parametrize("prior", ["sft", "sampler"])
def test_two_steps_on_the_bandit(prior: str) -> None:
    two_steps(BRAIn, prior=prior)
