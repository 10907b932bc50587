"""The hand-written networks against plain autograd, and the policy's contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from pairbench.batch import Batch
from pairbench.control.gaussian import Actor, GaussianPolicy, Normaliser, UniformPolicy, log_density

D, A, B, T = 17, 6, 5, 3


def example(critic: bool = True) -> tuple[GaussianPolicy, Batch]:
    """Returns a policy with weights of every size and a batch of B rows of T steps."""
    policy = GaussianPolicy(D, A, seed=1, critic=critic)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for group in policy.parameters():
            tensor = group.tensors[0]
            tensor += 0.1 * torch.randn(tensor.shape, generator=noise)
    contexts = torch.randn(B, T, D, generator=noise)
    responses = torch.randn(B, T, A, generator=noise)
    other = torch.randn(B, T, 2 * A, generator=noise) * 0.3
    logp = log_density(responses.flatten(0, 1), other.flatten(0, 1)).view(B, T)
    batch = Batch(
        contexts, responses, torch.ones(B, T), logp, torch.arange(B), old_dist=other, ref_dist=other
    )
    return policy, batch


def plain(
    policy: GaussianPolicy, batch: Batch
) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Returns float64 leaves, and log-prob, value, KL and entropy by torch's own operations."""
    assert policy.critic is not None
    leaves = [
        net.flat.detach().double().requires_grad_() for net in (policy.network, policy.critic)
    ]

    def network(flat: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
        hidden, start = batch.contexts.double(), 0
        for n, m, last in ((D, 64, False), (64, 64, False), (64, outputs, True)):
            weight = flat[start : start + n * m].view(n, m)
            hidden = hidden @ weight + flat[start + n * m : start + n * m + m]
            start += n * m + m
            hidden = hidden if last else torch.tanh(hidden)
        return hidden, flat[start:]

    mean, log_std = network(leaves[0], A)
    normal = Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)
    assert batch.old_dist is not None
    old_mean, old_log_std = batch.old_dist.double().chunk(2, -1)
    old = Independent(Normal(old_mean, old_log_std.exp()), 1)
    value = network(leaves[1], 1)[0].squeeze(-1)
    logp = normal.log_prob(batch.responses.double())
    return leaves, logp, value, kl_divergence(normal, old), normal.entropy()


@pytest.mark.parametrize("used", ["logp", "value", "kl", "entropy", "all"])
def test_outputs_and_gradients_agree_with_autograd(used: str) -> None:
    policy, batch = example()
    leaves, *expected = plain(policy, batch)
    output = policy(batch)
    got = [output.logp, output.value, output.kl_old, output.entropy]
    weights = torch.randn(4, B, T, generator=torch.Generator().manual_seed(2))
    names = ["logp", "value", "kl", "entropy"]
    mine, theirs = torch.zeros(()), torch.zeros((), dtype=torch.float64)
    for name, weight, a, b in zip(names, weights, got, expected):
        assert a is not None
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)
        if used in (name, "all"):
            mine, theirs = mine + (weight * a).sum(), theirs + (weight.double() * b).sum()
    theirs.backward()
    mine.backward()
    for group, leaf in zip(policy.parameters(), leaves):
        gradient = group.tensors[0].grad
        if leaf.grad is None:
            assert gradient is None
        else:
            assert gradient is not None
            torch.testing.assert_close(gradient.double(), leaf.grad, atol=1e-4, rtol=1e-5)


def test_two_calls_in_one_loss_add_up() -> None:
    policy, batch = example()
    flat = policy.network.flat
    (one,) = torch.autograd.grad(policy(batch).logp.sum(), [flat])
    (two,) = torch.autograd.grad(policy(batch).logp.sum() + policy(batch).logp.sum(), [flat])
    torch.testing.assert_close(two, 2 * one)


def test_a_second_derivative_is_refused() -> None:
    policy, batch = example()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(policy(batch).logp.sum(), [policy.network.flat], create_graph=True)


def test_log_std_stops_at_its_floor_and_can_return() -> None:
    policy, batch = example()
    with torch.no_grad():
        policy.network.extra[0] = -3.0
    assert float(policy.log_std[0]) == pytest.approx(-1.6)
    far = policy(batch).logp.sum()
    at_floor = policy(batch)
    assert at_floor.entropy is not None
    lower, raise_ = at_floor.entropy.sum(), -at_floor.entropy.sum()
    place = policy.network.flat.numel() - A
    (down,) = torch.autograd.grad(lower, [policy.network.flat], retain_graph=True)
    assert float(down[place]) == 0.0  # a step against it would lower the log-std: nothing left
    (up,) = torch.autograd.grad(raise_, [policy.network.flat])
    assert float(up[place]) == -B * T
    (gradient,) = torch.autograd.grad(-far, [policy.network.flat])
    assert float(gradient[place]) <= 0.0


def test_initial_weights_depend_on_the_seed_alone() -> None:
    with_critic = GaussianPolicy(D, A, seed=3, critic=True)
    without = GaussianPolicy(D, A, seed=3)
    torch.testing.assert_close(with_critic.network.flat, without.network.flat, atol=0, rtol=0)
    assert not torch.equal(GaussianPolicy(D, A, seed=4).network.flat, without.network.flat)
    (first, bias), (second, _), (last, _) = without.network.layers
    torch.testing.assert_close(first @ first.T, 2 * torch.eye(D), atol=1e-5, rtol=0)
    torch.testing.assert_close(second @ second.T, 2 * torch.eye(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(last.T @ last, 1e-4 * torch.eye(A), atol=1e-8, rtol=0)
    assert float(bias.abs().max()) == 0.0
    assert float(without.log_std.min()) == -0.5


def test_the_actor_acts_as_the_policy_says() -> None:
    policy, _ = example()
    policy.normaliser.update(np.random.default_rng(0).normal(3, 2, (500, D)))
    raw = np.random.default_rng(1).normal(3, 2, (7, D))
    actor = policy.actor(7)
    noise = policy.noise(np.random.default_rng(2), (7, A))
    normal, actions = np.empty((7, D), np.float32), np.empty((7, A), np.float32)
    actor.normalise(raw, normal)
    actor.act(normal, actor.prepare(noise), actions)
    np.testing.assert_allclose(normal, policy.normaliser(raw), rtol=1e-6)
    mean, log_std = policy.distribution(torch.from_numpy(normal)).chunk(2, 1)
    expected = mean + log_std.exp() * torch.from_numpy(noise)
    np.testing.assert_allclose(actions, expected.numpy(), atol=1e-5)
    assert isinstance(actor, Actor)


def test_normaliser_is_the_statistics_of_all_it_saw() -> None:
    data = np.random.default_rng(0).normal(5, 3, (1000, 4))
    normaliser = Normaliser(4)
    np.testing.assert_array_equal(normaliser(np.full((1, 4), 25.0)), np.full((1, 4), 10.0))
    for part in (data[:1], data[1:300], data[300:]):
        normaliser.update(part)
    np.testing.assert_allclose(normaliser.mean, data.mean(0))
    np.testing.assert_allclose(normaliser.variance, data.var(0))
    copy = Normaliser(4)
    copy.load_state(normaliser.state())
    np.testing.assert_array_equal(copy(data), normaliser(data))
    assert np.abs(copy(data * 100)).max() == 10.0


def test_state_restores_every_bit_in_place() -> None:
    policy, batch = example()
    policy.normaliser.update(np.random.default_rng(0).normal(3, 2, (500, D)))
    other = GaussianPolicy(D, A, seed=9, critic=True)
    held = other.network.flat
    other.load_state(policy.state())
    assert other.network.flat is held
    torch.testing.assert_close(other(batch).logp, policy(batch).logp, atol=0, rtol=0)
    np.testing.assert_array_equal(other.normaliser.mean, policy.normaliser.mean)


def test_layers_of_another_library_are_taken_over() -> None:
    torch.manual_seed(0)
    linear = [torch.nn.Linear(n, m) for n, m in ((D, 64), (64, 64), (64, A))]
    policy = GaussianPolicy(D, A, seed=0)
    policy.load_layers([(m.weight, m.bias) for m in linear], torch.full((A,), -0.3), Normaliser(D))
    x = torch.randn(8, D)
    theirs = torch.nn.Sequential(linear[0], torch.nn.Tanh(), linear[1], torch.nn.Tanh(), linear[2])
    mean, log_std = policy.distribution(x).chunk(2, 1)
    torch.testing.assert_close(mean, theirs(x))
    assert float(log_std[0, 0]) == pytest.approx(-0.3)


def test_uniform_policy() -> None:
    policy = UniformPolicy()
    noise = policy.noise(np.random.default_rng(0), (1000, 1, A))
    assert -1 <= noise.min() < -0.99 and 0.99 < noise.max() <= 1
    out = np.empty((1, A), np.float32)
    policy.actor(1).act(np.empty((1, D), np.float32), noise[0], out)
    np.testing.assert_array_equal(out, noise[0])
    batch = Batch(
        torch.zeros(1, 1, D),
        torch.zeros(1, 1, A),
        torch.ones(1, 1),
        torch.zeros(1, 1),
        torch.zeros(1),
    )
    assert float(policy(batch).logp) == pytest.approx(-A * np.log(2))
