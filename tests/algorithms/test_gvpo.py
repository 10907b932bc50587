"""GVPO: its value on fixture F, where its minimum lies, and its first gradient."""

from __future__ import annotations

from dataclasses import replace

import torch

from pairbench.algorithms.gvpo import GVPO
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, close, fixture_f, tensor
from tests.support.group_methods import make, on_f, pair_advantages, push


def test_golden_loss() -> None:
    """methods.md E: beta .1, S - S_old = [0, -.3, .5, .1]; residual sum of squares / (2 x 3)."""
    advantage, loss = on_f(GVPO)
    close(advantage, [0.125, -0.875, -0.375, 1.125], 1e-12)
    close(loss, 0.358879)


def three_arms() -> Batch:
    """Returns all responses to one context, pi_old = (.2, .5, .3) and r = (1, 0, .5)."""
    return Batch(
        contexts=torch.zeros(3, 1, dtype=torch.int64),
        responses=torch.arange(3).unsqueeze(1),
        mask=torch.ones(3, 1, dtype=torch.float64),
        old_logp=tensor([[0.2], [0.5], [0.3]]).log(),
        group=torch.zeros(3, dtype=torch.int64),
        score=tensor([1.0, 0.0, 0.5]),
    ).check()


def test_its_minimum_is_the_exact_step_of_mirror_descent() -> None:
    """methods.md E: pi_old exp(r / .5) / Z = (.529056, .179000, .291944), where the loss is 0."""
    batch = three_arms()
    tilted = (batch.old_logp[:, 0] + tensor([1.0, 0.0, 0.5]) / 0.5).log_softmax(0)
    close(tilted.exp(), [0.529056, 0.179000, 0.291944])
    method = make(GVPO, group_size=3, beta=0.5)
    signal = method.prepare(batch, 0.0, 0)
    logp = tilted.unsqueeze(1).clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), batch, signal).value
    close(loss, 0.0, 1e-15)
    close(torch.autograd.grad(loss, logp)[0][:, 0], [0.0] * 3, 1e-12)


def test_the_first_gradient_is_that_of_centred_scores() -> None:
    """At theta_old each step of a row is pushed by beta (r - mean) / (G - 1)."""
    close(push(GVPO), [0.1 / 3 * a * n for a, n in
                       zip([0.125, -0.875, -0.375, 1.125], [3, 2, 1, 3])], 1e-12)  # fmt: skip


def test_ties_pull_back_to_the_sampler_and_pairs_are_opposite() -> None:
    close(push(GVPO, [0.3] * 4), [0.0] * 4, 1e-15)
    close(pair_advantages(GVPO), [1.0, -1.0], 1e-12)
    batch, output = fixture_f()
    method = make(GVPO)
    tied = replace(batch, score=tensor([0.3] * 4))
    loss = method.loss(output, tied, method.prepare(tied, 0.0, 0)).value
    (gradient,) = torch.autograd.grad(loss, output.logp)
    moved = ((output.logp - OLD) * batch.mask).sum(1)
    assert bool((gradient[:, 0] * (moved - moved.mean()) > 0).all())


def test_a_standard_deviation_takes_the_scale_of_scores_away() -> None:
    small, large = (
        push(GVPO, [factor * r for r in (1.0, 0.0, 0.5, 2.0)], std="population")
        for factor in (1.0, 100.0)
    )
    torch.testing.assert_close(small, large)
    assert not GVPO(GVPO.Config()).needs.reference
