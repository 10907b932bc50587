"""Policy mirror descent: its value on fixture F, and how near the exact step its minimum is."""

from __future__ import annotations

import torch

from pairbench.algorithms.policy_mirror_descent import PolicyMirrorDescent
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from tests.support.fixtures import close, tensor
from tests.support.group_methods import make, on_f, pair_advantages, push


def test_golden_loss() -> None:
    """methods.md E: tau .5, mean of (.5 (S - S_old) - (r - .875))^2."""
    advantage, loss = on_f(PolicyMirrorDescent)
    close(advantage, [0.125, -0.875, -0.375, 1.125], 1e-12)
    close(loss, 0.521875)


def test_the_exact_step_leaves_every_response_the_same_residual() -> None:
    """methods.md E: pi_old (.2, .5, .3), r (1, 0, .5), tau .5 give (.529056, .179000, .291944).

    There tau log(pi / pi_old) - (r - mean r) = mean r - tau log Z for each arm, so the loss is its
    square: the price of letting the mean score stand for tau log Z.
    """
    old, reward = tensor([0.2, 0.5, 0.3]), tensor([1.0, 0.0, 0.5])
    batch = Batch(
        contexts=torch.zeros(3, 1, dtype=torch.int64),
        responses=torch.arange(3).unsqueeze(1),
        mask=torch.ones(3, 1, dtype=torch.float64),
        old_logp=old.log().unsqueeze(1),
        group=torch.zeros(3, dtype=torch.int64),
        score=reward,
    ).check()
    normaliser = (old * (reward / 0.5).exp()).sum()
    step = old * (reward / 0.5).exp() / normaliser
    close(step, [0.529056, 0.179000, 0.291944])
    method = make(PolicyMirrorDescent, group_size=3)
    output = PolicyOutput(step.log().unsqueeze(1))
    loss = method.loss(output, batch, method.prepare(batch, 0.0, 0)).value
    close(loss, float((0.5 - 0.5 * normaliser.log()) ** 2), 1e-12)


def test_the_first_gradient_is_that_of_centred_scores() -> None:
    """At theta_old each step of a row is pushed by 2 tau (r - mean) / G."""
    close(push(PolicyMirrorDescent), [0.25 * a * n for a, n in
                                      zip([0.125, -0.875, -0.375, 1.125], [3, 2, 1, 3])],
          1e-12)  # fmt: skip


def test_ties_and_pairs() -> None:
    close(push(PolicyMirrorDescent, [0.3] * 4), [0.0] * 4, 1e-15)
    close(pair_advantages(PolicyMirrorDescent), [1.0, -1.0], 1e-12)
    close(pair_advantages(PolicyMirrorDescent, std="sample"), [2**-0.5, -(2**-0.5)])
