"""The categorical policy of control tasks with a finite number of actions."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.control.gaussian import Actor, GaussianPolicy, Mlp, UniformPolicy
from pairbench.control.mujoco_env import Single
from pairbench.policy import PolicyOutput


class CategoricalPolicy(GaussianPolicy):
    """pi(a | s) = softmax(logits(s)), the logits a 64x64 tanh perceptron.

    It has the Gaussian policy's networks, critic, normaliser and state, without a log-std.
    A response's step is one of A actions as a one-hot vector (A,), float32; its context is the
    normalised observation. Distributions are (..., A) log-probabilities.
    """

    def __init__(self, observations: int, actions: int, *, seed: int, critic: bool = False) -> None:
        """Draws initial weights that depend on `seed` and the sizes alone."""
        super().__init__(observations, actions, seed=seed, critic=critic)
        for old in (self.network, self._reference):
            old.flat = old.flat.detach()[:-actions].clone()
        self.network = Mlp(observations, actions, flat=self.network.flat)
        self._reference = Mlp(observations, actions, flat=self._reference.flat)
        self.network.flat.requires_grad_(True)

    def __call__(self, batch: Batch) -> PolicyOutput:
        log_p = _outputs(self.network, batch.contexts).log_softmax(-1)
        value = None if self.critic is None else _outputs(self.critic, batch.contexts).squeeze(-1)
        old, ref = batch.old_dist, batch.ref_dist
        return PolicyOutput(
            (log_p * batch.responses).sum(-1),
            value,
            entropy=lambda: -(log_p.exp() * log_p).sum(-1),
            kl_old=None if old is None else partial(_divergence, log_p, old),
            kl_ref=None if ref is None else partial(_divergence, log_p, ref),
        )

    def noise(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Single:
        """Returns Gumbel noise for logits (..., A): the largest sum is a draw of softmax."""
        return generator.gumbel(size=shape).astype(np.float32)

    def actor(self, count: int) -> CategoricalActor:
        return CategoricalActor(self, count)

    def distribution(self, observations: Tensor, reference: bool = False) -> Tensor:
        """Returns (N, A) log-probabilities at normalised observations (N, D), without a graph."""
        network = self._reference if reference else self.network
        with torch.no_grad():
            return network.forward(observations)[2].log_softmax(1)


class CategoricalActor(Actor):
    """The acting half: the largest of logits plus noise, so that without noise it is the mode."""

    def prepare(self, noise: Single) -> Single:
        """Returns what `act` adds to the logits before their bias: noise (..., A) and bias."""
        prepared: Single = noise + self._layers[2][1]
        return prepared

    def __init__(self, policy: CategoricalPolicy, count: int) -> None:
        super().__init__(policy, count)
        self._rows = np.arange(count)

    def act(self, observations: Single, prepared: Single, out: Single) -> None:
        """Writes one-hot actions (N, A) for normalised observations (N, D) to `out`."""
        super().act(observations, prepared, out)
        chosen = out.argmax(1)
        out[...] = 0.0
        out[self._rows, chosen] = 1.0


class UniformChoice(UniformPolicy):
    """Each action as often, whatever the state: the `random` floor row.

    It acts by (..., A) uniform noise, of which whoever steps takes the largest.
    """

    def __call__(self, batch: Batch) -> PolicyOutput:
        level = -math.log(batch.responses.shape[-1])
        return PolicyOutput(torch.full(batch.mask.shape, level))


def _outputs(network: Mlp, observations: Tensor) -> Tensor:
    """Returns (..., O) of observations (..., D), with a graph to `network.flat`."""
    shapes = [tuple(weight.shape) for weight, _ in network.layers]
    ((w1, b1), (w2, b2), (w3, b3)), _ = network._views(network.flat, shapes)  # type: ignore[arg-type]
    flat = observations.reshape(-1, observations.shape[-1])
    hidden = torch.addmm(b2, torch.addmm(b1, flat, w1).tanh(), w2).tanh()
    return torch.addmm(b3, hidden, w3).view(*observations.shape[:-1], -1)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Returns KL(p || q) per step, (B, T), of log-probabilities (B, T, A), nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
