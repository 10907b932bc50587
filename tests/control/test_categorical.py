from __future__ import annotations

import math

import numpy as np
import torch

from pairbench.batch import Batch
from pairbench.control.categorical import CategoricalPolicy, UniformChoice

SEEN = torch.tensor([[[0.5, -1.0], [2.0, 0.0], [0.1, 0.3]]])
TAKEN = torch.eye(4)[torch.tensor([[3, 0, 1]])]


def policy(critic: bool = False) -> CategoricalPolicy:
    made = CategoricalPolicy(2, 4, seed=7, critic=critic)
    with torch.no_grad():  # away from the start, where all actions are all but alike
        made.network.flat.add_(0.5 * torch.arange(len(made.network.flat)).sin())
    return made


def batch(made: CategoricalPolicy) -> Batch:
    old = made.distribution(SEEN[0]).view(1, 3, 4)
    ref = made.distribution(SEEN[0], reference=True).view(1, 3, 4)
    return Batch(
        contexts=SEEN,
        responses=TAKEN,
        mask=torch.ones(1, 3),
        old_logp=(old * TAKEN).sum(-1),
        old_dist=old,
        ref_dist=ref,
        group=torch.tensor([0]),
    )


def test_the_distribution_is_the_softmax_of_the_networks_logits() -> None:
    made = policy(critic=True)
    output = made(batch(made))
    logits = made.network.forward(SEEN[0])[2].double()
    p = (logits.exp() / logits.exp().sum(1, keepdim=True)).numpy()
    assert output.entropy is not None and output.value is not None
    np.testing.assert_allclose(
        output.logp.detach()[0].numpy(), np.log(p[[0, 1, 2], [3, 0, 1]]), rtol=1e-5
    )
    np.testing.assert_allclose(
        output.entropy.detach()[0].numpy(), -(p * np.log(p)).sum(1), rtol=1e-5
    )
    torch.testing.assert_close(output.value.detach()[0], made.values(SEEN[0]))


def test_divergences_are_exact_and_nothing_where_nothing_moved() -> None:
    made = policy()
    seen = batch(made)
    output = made(seen)
    assert output.kl_old is not None and output.kl_ref is not None
    torch.testing.assert_close(output.kl_old.detach(), torch.zeros(1, 3), atol=1e-6, rtol=0)
    p, q = made.distribution(SEEN[0]).double(), made.distribution(SEEN[0], True).double()
    expected = (p.exp() * (p - q)).sum(1)
    assert bool((expected > 1e-3).all())
    torch.testing.assert_close(output.kl_ref.detach()[0].double(), expected, rtol=1e-4, atol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    made = policy()
    seen = batch(made)
    flat = made.network.flat
    made(seen).logp.sum().backward()  # type: ignore[no-untyped-call]
    assert flat.grad is not None and len(made.parameters()[0].tensors) == 1
    for index in (0, 130, 4000, len(flat) - 1):
        sides = []
        for step in (1e-2, -1e-2):
            with torch.no_grad():
                flat[index] += step
                sides.append(float(made(seen).logp.double().sum()))
                flat[index] -= step
        assert math.isclose(
            float(flat.grad[index]), (sides[0] - sides[1]) / 2e-2, rel_tol=2e-2, abs_tol=1e-3
        )


def test_it_acts_as_it_says_and_without_noise_takes_the_mode() -> None:
    made = policy()
    count = 20_000
    seen = np.repeat(SEEN[0, :1].numpy(), count, axis=0)
    noise = made.noise(np.random.Generator(np.random.Philox(key=1)), (count, 4))
    out = np.empty((count, 4), np.float32)
    actor = made.actor(count)
    actor.act(seen, actor.prepare(noise), out)
    assert set(np.unique(out)) == {0.0, 1.0} and bool((out.sum(1) == 1).all())
    p = made.distribution(SEEN[0, :1]).exp()[0].numpy()
    np.testing.assert_allclose(out.mean(0), p, atol=4 * math.sqrt(0.25 / count))
    actor.act(seen, actor.prepare(np.zeros_like(noise)), out)
    assert bool((out.argmax(1) == p.argmax()).all())


def test_its_state_makes_another_the_same() -> None:
    made, other = policy(critic=True), CategoricalPolicy(2, 4, seed=8, critic=True)
    other.load_state(made.state())
    torch.testing.assert_close(other.distribution(SEEN[0]), made.distribution(SEEN[0]))
    torch.testing.assert_close(other.values(SEEN[0]), made.values(SEEN[0]))


def test_the_random_row_gives_each_action_the_same_probability() -> None:
    made = policy()
    torch.testing.assert_close(
        UniformChoice()(batch(made)).logp, torch.full((1, 3), -math.log(4.0))
    )
