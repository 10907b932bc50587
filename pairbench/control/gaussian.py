"""The diagonal Gaussian policy of the control tasks, and its networks with hand-written gradients.

Every network is a D-64-64-O perceptron with tanh units whose parameters lie in one flat float32
vector. An update of so small a network is bound by the number of operations, not by arithmetic, so
forward and backward passes are written out and each network is one autograd node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.control.mujoco_env import Float, Single
from pairbench.policy import ParameterGroup, PolicyOutput

HIDDEN = 64
CLIP = 10.0
"""Normalised observations are clipped to [-CLIP, CLIP]."""
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


_tanh_backward = torch.ops.aten.tanh_backward.default


class Mlp:
    """A D-64-64-O tanh perceptron, followed by `extra` free parameters, in one flat vector.

    Attributes:
        flat: (P,) every parameter, in the order of `layers` and then `extra`.
        layers: weight (in, out) and bias (out,) of each of the three layers: views of `flat`.
        extra: (E,) view of the free parameters at its end.
        extra_array: the same memory as a numpy array.
    """

    def __init__(self, inputs: int, outputs: int, extra: int = 0, flat: Tensor | None = None):
        shapes = [(inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, outputs)]
        size = sum(n * m + m for n, m in shapes) + extra
        self.flat = torch.zeros(size) if flat is None else flat
        self.layers, self.extra = self._views(self.flat.detach(), shapes)
        self.extra_array: Single = self.extra.numpy()
        self._transposed = [weight.t() for weight, _ in self.layers]
        self._gradient = torch.empty_like(self.flat, requires_grad=False)
        self._gradients, self._extra_gradient = self._views(self._gradient, shapes)

    @staticmethod
    def _views(
        flat: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        layers, start = [], 0
        for n, m in shapes:
            weight = flat[start : start + n * m].view(n, m)
            layers.append((weight, flat[start + n * m : start + n * m + m]))
            start += n * m + m
        return layers, flat[start:]

    def initialise(self, generator: np.random.Generator, gain: float) -> None:
        """Draws orthogonal weights, of gain sqrt(2) but for `gain` in the last layer; zero biases.

        Computed in float64 with numpy, so that it does not depend on torch's threads.
        """
        for (weight, bias), scale in zip(self.layers, (math.sqrt(2), math.sqrt(2), gain)):
            n, m = weight.shape
            q, r = np.linalg.qr(generator.standard_normal((max(n, m), min(n, m))))
            q = q * np.sign(np.diag(r))
            weight.copy_(torch.from_numpy((q if n >= m else q.T) * scale))
            bias.zero_()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the two hidden layers (N, 64) and the output (N, O); builds no graph."""
        (w1, b1), (w2, b2), (w3, b3) = self.layers
        first = torch.addmm(b1, inputs, w1).tanh_()
        second = torch.addmm(b2, first, w2).tanh_()
        return first, second, torch.addmm(b3, second, w3)

    def gradient(
        self,
        inputs: Tensor,
        first: Tensor,
        second: Tensor,
        output: Tensor,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Returns the flat gradient, given those of the output (N, O) and of `extra`."""
        (g1, c1), (g2, c2), (g3, c3) = self._gradients
        torch.mm(second.t(), output, out=g3)
        torch.sum(output, 0, out=c3)
        deep = _tanh_backward(torch.mm(output, self._transposed[2]), second)
        torch.mm(first.t(), deep, out=g2)
        torch.sum(deep, 0, out=c2)
        shallow = _tanh_backward(torch.mm(deep, self._transposed[1]), first)
        torch.mm(inputs.t(), shallow, out=g1)
        torch.sum(shallow, 0, out=c1)
        if extra is not None:
            self._extra_gradient.copy_(extra)
        return self._gradient.clone()


class _Networks(torch.autograd.Function):
    """(policy flat, critic flat or None, observations, actions, policy) as one autograd node.

    Returns log-probabilities (B, T), values (B, T) or None, means (N, A) and log-stds (A,), for
    observations (B, T, D) and actions (B, T, A), N = B T. Arrays of a few numbers a row are handled
    in numpy, whose calls cost less.

    Where a log-std lies below its floor the floor is used, and the gradient keeps only the
    direction that would raise it: it can come back, but not run away.
    """

    @staticmethod
    def forward(
        ctx: Any,
        flat: Tensor,
        critic_flat: Tensor | None,
        observations: Tensor,
        actions: Tensor,
        policy: GaussianPolicy,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        shape = observations.shape[:2]
        inputs = observations.reshape(-1, observations.shape[2])
        network, critic = policy.network, policy.critic
        first, second, mean = network.forward(inputs)
        log_std = np.maximum(network.extra_array, policy.floor)
        inverse = np.exp(-log_std)
        z = actions.numpy().reshape(mean.shape) - mean.numpy()
        z *= inverse
        square = z * z
        logp = square @ np.full_like(log_std, -0.5)
        logp -= log_std.sum() + HALF_LOG_2_PI * len(log_std)
        ctx.set_materialize_grads(False)
        ctx.kept = policy, inputs, first, second, inverse, z, square
        value = None
        if critic is not None:
            first, second, out = critic.forward(inputs)
            ctx.kept_critic = first, second
            value = out.view(shape)
        return torch.from_numpy(logp).view(shape), value, mean, torch.from_numpy(log_std)

    @staticmethod
    def backward(
        ctx: Any,
        d_logp: Tensor | None,
        d_value: Tensor | None,
        d_mean: Tensor | None,
        d_log_std: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("the control networks have first derivatives only")
        policy, inputs, first, second, inverse, z, square = ctx.kept
        network, critic = policy.network, policy.critic
        gradient = critic_gradient = None
        if not (d_logp is None and d_mean is None and d_log_std is None):
            extra = np.zeros_like(inverse) if d_log_std is None else d_log_std.numpy()
            out = d_mean
            if d_logp is not None:
                row = d_logp.numpy().reshape(-1)
                through = z * row[:, None]
                through *= inverse
                extra = extra + row @ (square - 1.0)
                out = torch.from_numpy(through)
                if d_mean is not None:
                    out += d_mean
            elif out is None:
                out = torch.zeros(z.shape, dtype=inputs.dtype)
            below = network.extra_array < policy.floor
            if below.any():
                extra = np.where(below, np.minimum(extra, 0.0), extra)
            gradient = network.gradient(inputs, first, second, out, torch.from_numpy(extra))
        if critic is not None and d_value is not None:
            first, second = ctx.kept_critic
            critic_gradient = critic.gradient(inputs, first, second, d_value.reshape(-1, 1))
        return gradient, critic_gradient, None, None, None


class _Kl(torch.autograd.Function):
    """(mean (N, A), log_std (A,), other (N, 2A)) -> (N,) KL(this || other), nats."""

    @staticmethod
    def forward(ctx: FunctionCtx, mean: Tensor, log_std: Tensor, other: Tensor) -> Tensor:
        other_mean, other_log_std = other.chunk(2, 1)
        precision = other_log_std.mul(-2.0).exp_()
        gap = mean - other_mean
        scaled = gap * precision
        ratio = precision.mul_(log_std.mul(2.0).exp_())
        kl = gap.mul_(scaled).add_(ratio).mul_(0.5).add_(other_log_std).sub_(log_std)
        ctx.save_for_backward(scaled, ratio)
        return kl.sum(1).sub_(0.5 * mean.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("this divergence has first derivatives only")
        scaled, ratio = ctx.saved_tensors
        return (
            scaled * gradient.unsqueeze(1),
            torch.mv(ratio.t(), gradient).sub_(gradient.sum()),
            None,
        )


def gaussian_kl(mean: Tensor, log_std: Tensor, other: Tensor) -> Tensor:
    """Returns (N,) KL of N(mean, exp(log_std)^2) from the diagonal Gaussians `other`, nats.

    Args:
        mean: (N, A).
        log_std: (A,).
        other: (N, 2A) means and then log standard deviations.
    """
    kl: Tensor = _Kl.apply(mean, log_std, other)  # type: ignore[no-untyped-call]
    return kl


class Normaliser:
    """Running mean and variance of observations (D,), in float64; the identity until updated."""

    def __init__(self, size: int) -> None:
        self.mean: Float = np.zeros(size)
        self.variance: Float = np.ones(size)
        self.count = 0.0

    @property
    def scale(self) -> Float:
        """1 / standard deviation, (D,)."""
        scale: Float = 1.0 / np.sqrt(self.variance + 1e-8)
        return scale

    def __call__(self, observations: Float) -> Single:
        """Returns observations (..., D) normalised and clipped, as float32."""
        normal = (observations - self.mean) * self.scale
        clipped: Single = np.clip(normal, -CLIP, CLIP).astype(np.float32)
        return clipped

    def update(self, observations: Float) -> None:
        """Adds observations (N, D) to the statistics (Chan et al. 1979)."""
        n = len(observations)
        if n == 0:
            return
        mean, variance = observations.mean(0), observations.var(0)
        total = self.count + n
        gap = mean - self.mean
        held = self.variance * self.count + variance * n + gap**2 * (self.count * n / total)
        self.mean, self.variance, self.count = self.mean + gap * (n / total), held / total, total

    def state(self) -> dict[str, Tensor]:
        """Returns mean, variance and count as tensors."""
        return {
            "mean": torch.from_numpy(self.mean.copy()),
            "variance": torch.from_numpy(self.variance.copy()),
            "count": torch.tensor(self.count, dtype=torch.float64),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned."""
        self.mean = torch.as_tensor(state["mean"]).numpy().copy()
        self.variance = torch.as_tensor(state["variance"]).numpy().copy()
        self.count = float(state["count"])


class Actor:
    """A policy's acting half, in numpy, for N simulations at a time: no graph and no allocation."""

    def __init__(self, policy: GaussianPolicy, count: int) -> None:
        self._layers: list[tuple[Single, Single]] = [
            (w.numpy(), b.numpy()) for w, b in policy.network.layers
        ]
        self._mean, self._scale = policy.normaliser.mean, policy.normaliser.scale
        self._std: Single = policy.log_std.exp().numpy()
        self._wide = np.empty((count, len(self._mean)))
        self._hidden = (
            np.empty((count, HIDDEN), np.float32),
            np.empty((count, HIDDEN), np.float32),
        )

    def prepare(self, noise: Single) -> Single:
        """Returns what `act` adds to the mean before its bias: noise (..., A) scaled, plus bias."""
        return noise * self._std + self._layers[2][1]

    def normalise(self, observations: Float, out: Single) -> None:
        """Writes the normalised observations (N, D) to `out`."""
        wide = self._wide
        np.subtract(observations, self._mean, out=wide)
        np.multiply(wide, self._scale, out=wide)
        np.minimum(wide, CLIP, out=wide)
        np.maximum(wide, -CLIP, out=wide)
        out[...] = wide

    def act(self, observations: Single, prepared: Single, out: Single) -> None:
        """Writes actions (N, A), not clipped, for normalised observations (N, D) to `out`."""
        (w1, b1), (w2, b2), (w3, _) = self._layers
        first, second = self._hidden
        np.matmul(observations, w1, out=first)
        np.add(first, b1, out=first)
        np.tanh(first, out=first)
        np.matmul(first, w2, out=second)
        np.add(second, b2, out=second)
        np.tanh(second, out=second)
        np.matmul(second, w3, out=out)
        np.add(out, prepared, out=out)


class GaussianPolicy:
    """N(mean(s), diag(std)^2) with a 64x64 tanh mean and a state-independent log-std.

    A response's step is the action before it is clipped to the actuators' range; its context is the
    normalised observation. Distributions are (..., 2A): means, then log standard deviations.

    Attributes:
        network: the mean's network; its `extra` parameters are the log standard deviations.
        critic: the value network, or None.
        normaliser: statistics of the observations.
    """

    stepwise = True

    def __init__(
        self,
        observations: int,
        actions: int,
        *,
        seed: int,
        log_std: float = -0.5,
        log_std_floor: float = -1.6,
        critic: bool = False,
    ) -> None:
        """Draws initial weights that depend on `seed` and the sizes alone."""
        self.floor = log_std_floor
        self.network = Mlp(observations, actions, extra=actions)
        self.network.initialise(seeding.generator(seed, "init/policy"), 0.01)
        self.network.extra.fill_(log_std)
        self._reference = Mlp(observations, actions, extra=actions)
        self._reference.flat.copy_(self.network.flat)
        self.network.flat.requires_grad_(True)
        self.critic: Mlp | None = None
        if critic:
            self.critic = Mlp(observations, 1)
            self.critic.initialise(seeding.generator(seed, "init/critic"), 1.0)
            self.critic.flat.requires_grad_(True)
        self.normaliser = Normaliser(observations)

    @property
    def log_std(self) -> Tensor:
        """(A,) log standard deviations in force, detached."""
        return self.network.extra.clamp(min=self.floor)

    def __call__(self, batch: Batch) -> PolicyOutput:
        shape = batch.mask.shape
        logp, value, mean, log_std = _Networks.apply(  # type: ignore[no-untyped-call]
            self.network.flat,
            None if self.critic is None else self.critic.flat,
            batch.contexts,
            batch.responses,
            self,
        )

        def entropy() -> Tensor:
            each: Tensor = log_std.sum() + (HALF_LOG_2_PI + 0.5) * len(log_std)
            return each.expand(shape)

        def kl(other: Tensor) -> Tensor:
            return gaussian_kl(mean, log_std, other.flatten(0, 1)).view(shape)

        old, ref = batch.old_dist, batch.ref_dist
        return PolicyOutput(
            logp,
            value,
            entropy=entropy,
            kl_old=None if old is None else lambda: kl(old),
            kl_ref=None if ref is None else lambda: kl(ref),
        )

    def noise(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Single:
        """Returns standard normal noise for actions (..., A)."""
        return generator.standard_normal(shape, np.float32)

    def actor(self, count: int) -> Actor:
        """Returns the acting half with the present weights, for `count` simulations."""
        return Actor(self, count)

    def distribution(self, observations: Tensor, reference: bool = False) -> Tensor:
        """Returns (N, 2A) means and log-stds at normalised observations (N, D), without a graph.

        With `reference`, those of the untrained policy, whose normaliser is the identity.
        """
        network = self._reference if reference else self.network
        with torch.no_grad():
            mean = network.forward(observations)[2]
            log_std = network.extra.clamp(min=self.floor)
            return torch.cat([mean, log_std.expand_as(mean)], 1)

    def values(self, observations: Tensor) -> Tensor:
        """Returns the critic's (N,) values of normalised observations (N, D), without a graph."""
        if self.critic is None:
            raise TypeError("this policy has no critic")
        with torch.no_grad():
            return self.critic.forward(observations)[2].squeeze(1)

    def parameters(self) -> list[ParameterGroup]:
        groups = [ParameterGroup("policy", [self.network.flat])]
        if self.critic is not None:
            groups.append(ParameterGroup("critic", [self.critic.flat]))
        return groups

    def load_layers(
        self, layers: Sequence[tuple[Tensor, Tensor]], log_std: Tensor, normaliser: Normaliser
    ) -> None:
        """Takes over a policy trained elsewhere with the same 64x64 tanh shape.

        Args:
            layers: weight (out, in), as torch.nn.Linear holds it, and bias of the three layers.
            log_std: (A,).
            normaliser: the statistics its observations were normalised with.
        """
        with torch.no_grad():
            for (weight, bias), (new_weight, new_bias) in zip(self.network.layers, layers):
                weight.copy_(new_weight.t())
                bias.copy_(new_bias)
            self.network.extra.copy_(log_std)
        self.normaliser = normaliser

    def state(self) -> dict[str, Tensor]:
        state = {f"normaliser.{k}": v for k, v in self.normaliser.state().items()}
        for group in self.parameters():
            state[group.role] = group.tensors[0].detach().clone()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for group in self.parameters():
                group.tensors[0].copy_(torch.as_tensor(state[group.role]))
        self.normaliser.load_state(
            {k: state[f"normaliser.{k}"] for k in ("mean", "variance", "count")}
        )


def log_density(actions: Tensor, distribution: Tensor) -> Tensor:
    """Returns (N,) log-densities of actions (N, A) under distributions (N, 2A), nats."""
    mean, log_std = distribution.chunk(2, 1)
    z = (actions - mean) * torch.exp(-log_std)
    return -0.5 * (z * z).sum(1) - log_std.sum(1) - HALF_LOG_2_PI * mean.shape[1]


class UniformPolicy:
    """Uniform actions in the actuators' range, whatever the state: the `random` floor row."""

    stepwise = True

    def __call__(self, batch: Batch) -> PolicyOutput:
        inside = (batch.responses.abs() <= 1).all(-1)
        level = -math.log(2.0) * batch.responses.shape[-1]
        return PolicyOutput(torch.where(inside, level, -math.inf))

    def parameters(self) -> list[ParameterGroup]:
        return []

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        return None

    def noise(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Single:
        """Returns uniform noise in [-1, 1), which is the action itself."""
        return generator.uniform(-1.0, 1.0, shape).astype(np.float32)

    def actor(self, count: int) -> UniformPolicy:
        """Returns itself: it acts by its noise alone, and its mean action is 0."""
        return self

    def prepare(self, noise: Single) -> Single:
        """Returns the noise itself."""
        return noise

    def normalise(self, observations: Float, out: Single) -> None:
        """Leaves `out` as it is: the observation is not looked at."""

    def act(self, observations: Single, prepared: Single, out: Single) -> None:
        """Writes the prepared actions (N, A) to `out`."""
        out[...] = prepared
