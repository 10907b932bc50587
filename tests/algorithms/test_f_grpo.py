"""f-GRPO: divergences and their links, weights, golden losses, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pairbench import objectives as o
from pairbench.algorithms.f_grpo import FGRPO
from pairbench.batch import join
from pairbench.policy import PolicyOutput
from tests.support.fixtures import LOGP, close, fixture_f, tensor
from tests.support.group_methods import make, on_f, pair_advantages, push

PAPER = {"weights": "self-normalised", "prefactor": "paper"}
GOLDEN = {
    "kl": (0.007342, 0.263573),
    "kl-canonical": (0.001028, -0.002883),
    "reverse-kl": (-0.001326, -0.002891),
    "pearson": (-0.000150, -0.002906),
    "hellinger": (-0.000075, -0.001444),
    "js": (-0.000075, -0.001444),
    "tv": (-0.000037, -0.000732),
}
"""methods.md A.5: fixture F, beta .1, ddof 1; the paper's weights and factor, then our defaults."""

F: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": lambda t: t * t.log(),
    "reverse-kl": lambda t: -t.log(),
    "pearson": lambda t: (t - 1) ** 2,
    "hellinger": lambda t: (t.sqrt() - 1) ** 2,
    "js": lambda t: t * t.log() - (1 + t) * ((1 + t) / 2).log(),
    "tv": lambda t: (t - 1).abs() / 2,
}
SLOPES = {
    "kl": (1.0, math.exp(-1.0)),
    "kl-canonical": (1.0, 1.0),
    "reverse-kl": (1.0, 1.0),
    "pearson": (1.0, 1.0),
    "hellinger": (0.5, 0.5),
    "js": (0.5, 0.5),
    "tv": (0.25, 0.25),
}
"""methods.md A.2: slopes of g and of f* o g at u = 0."""


@pytest.mark.parametrize("divergence", GOLDEN)
def test_golden_losses(divergence: str) -> None:
    paper, ours = GOLDEN[divergence]
    close(on_f(FGRPO, divergence=divergence, **PAPER)[1], paper)
    advantage, loss = on_f(FGRPO, divergence=divergence)
    close(advantage, [0.146385, -1.024695, -0.439155, 1.317465])
    close(loss, ours)
    assert set(GOLDEN) == set(SLOPES) == set(get_args(o.Divergence))


def test_golden_weights_and_implicit_rewards() -> None:
    """methods.md A.5: rows 0 and 3 lie above the mean; gamma .05 adds .05 (S - S_old)."""
    batch, output = fixture_f()
    method = make(FGRPO, weights="self-normalised")
    assert isinstance(method, FGRPO)
    signal = method.prepare(batch, 0.0, 0)
    weights = signal["weight"] / signal["advantage"][:, 0]
    close(weights, [0.401312, 0.785835, 0.214165, 0.598688])
    close(method.implicit_reward(output, batch), [0.01, 0.0, 0.02, 0.01])
    drift = make(FGRPO, gamma=0.05)
    assert isinstance(drift, FGRPO)
    close(drift.implicit_reward(output, batch), [0.01, -0.015, 0.045, 0.015])


def test_weights_by_mean_log_probability() -> None:
    """S_old / L = [-7/6, -.8, -.8, -2.9/3]: upper r + 7/6, 2 + 2.9/3; lower .8, -.5 + .8."""
    batch, _ = fixture_f()
    signal = make(FGRPO, weights="self-normalised-mean").prepare(batch, 0.0, 0)
    upper = tensor([1.0 + 3.5 / 3, 2.0 + 2.9 / 3]).softmax(0).tolist()
    lower = tensor([0.8, 0.3]).softmax(0).tolist()
    expected = [upper[0], lower[0], lower[1], upper[1]]
    close(signal["weight"] / signal["advantage"][:, 0], expected, 1e-12)


@pytest.mark.parametrize("divergence", GOLDEN)
def test_links_stay_in_the_domain_and_conjugates_are_suprema(divergence: str) -> None:
    """f*(s) = sup over t > 0 of s t - f(t), searched on a fine grid of t, at s = g(u)."""
    u = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64)
    link: Any = divergence
    t = torch.linspace(-12, 6, 200_001, dtype=torch.float64).exp()
    s = o.critic(u, link)
    f = F[divergence.removesuffix("-canonical")](t)
    found = torch.stack([(value * t - f).max() for value in s])
    torch.testing.assert_close(o.conjugate_critic(u, link), found, atol=1e-4, rtol=0.0)
    assert bool((s.diff() > 0).all())


@pytest.mark.parametrize("divergence", SLOPES)
def test_slopes_at_the_reference(divergence: str) -> None:
    link: Any = divergence
    for function, expected in zip((o.critic, o.conjugate_critic), SLOPES[divergence]):
        u = tensor([0.0]).requires_grad_()
        (slope,) = torch.autograd.grad(function(u, link).sum(), u)
        close(slope, [expected], 1e-12)


def test_the_link_of_total_variation_never_leaves_its_domain() -> None:
    """tanh(u / 2), without the half, would leave [-1/2, 1/2], where f* is infinite."""
    u = tensor([-1e3, -5.0, 5.0, 1e3])
    assert bool((o.critic(u, "tv").abs() <= 0.5).all())


@pytest.mark.parametrize("divergence", GOLDEN)
def test_better_responses_go_up_and_worse_ones_down(divergence: str) -> None:
    asked = push(FGRPO, divergence=divergence)
    assert asked.sign().tolist() == [1.0, -1.0, -1.0, 1.0]


def test_at_the_sampler_it_is_a_policy_gradient() -> None:
    """u = 0 with the sampler as reference: JS pushes each step by beta a w / 2."""
    a = [0.146385, -1.024695, -0.439155, 1.317465]
    expected = [0.1 * x * 0.5 * 0.5 * n for x, n in zip(a, [3, 2, 1, 3])]
    close(push(FGRPO, reference="sampler"), expected)
    assert not FGRPO(FGRPO.Config(reference="sampler")).needs.reference


def test_ties_and_pairs() -> None:
    """Equal scores ask for nothing; two are +-1/sqrt 2; one at the mean has weight 0."""
    for weights in ("uniform", "self-normalised"):
        close(push(FGRPO, [0.3] * 4, weights=weights), [0.0] * 4, 0.0)
    close(pair_advantages(FGRPO), [2**-0.5, -(2**-0.5)])
    assert push(FGRPO, [0.0, 1.0, 2.0, 1.0]).sign().tolist() == [-1.0, 0.0, 1.0, 0.0]


def test_the_loss_is_a_mean_over_groups() -> None:
    batch, _ = fixture_f()
    method, both = make(FGRPO), join([batch, batch])
    loss = method.loss(PolicyOutput(torch.cat([LOGP, LOGP])), both, method.prepare(both, 0.0, 0))
    close(loss.value, GOLDEN["js"][1])


@pytest.mark.parametrize("divergence", GOLDEN)
def test_far_from_the_reference_the_other_side_overflows_nothing(divergence: str) -> None:
    """Rewards of thousands on the side where the link is finite leave a finite gradient."""
    batch, _ = fixture_f()
    ref = batch.old_logp - tensor([[1.0], [-1.0], [-1.0], [1.0]]) * 1e4
    batch = replace(batch, ref_logp=ref)
    method = make(FGRPO, divergence=divergence)
    logp = batch.old_logp.clone().requires_grad_()
    value = method.loss(PolicyOutput(logp), batch, method.prepare(batch, 0.0, 0)).value
    assert bool(torch.isfinite(torch.autograd.grad(value, logp)[0]).all())
