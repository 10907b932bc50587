"""The noise of an iteration's gradient, measured at the sampling policy by probes of a run."""

from __future__ import annotations

import numpy as np
import torch

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch, Signal
from pairbench.policy import Policy, view
from pairbench.training.run import Run
from pairbench.training.steps import as_trained, by_steps

PROBE_UNITS = 256  # groups per measurement of gradient noise: fewer estimate nothing (pilots)
PROBE_STEPS = 32  # steps that count as one unit where a method is trained on single ones


def probe_if_due(run: Run, algorithm: Algorithm) -> None:
    """Measures the gradient's noise at the sampling policy if a probe is due."""
    policy, probes = run.policy, run.spec.protocol.probes
    if len(run.noise) >= probes or run.progress() * probes < len(run.noise):
        return
    units, steps = PROBE_UNITS, by_steps(algorithm.needs, policy.stepwise)
    if steps:  # rows enough for that many blocks of steps
        units = -(-PROBE_UNITS * PROBE_STEPS // algorithm.config.segment)
    with torch.no_grad():
        batch = run.session.probe(units, run.streams)
    batch, signal = algorithm.study(batch, run.progress(), run.cost.iterations)
    trained, signal = as_trained(algorithm.needs, policy.stepwise, batch, signal)
    size = PROBE_STEPS if steps else batch.group_size
    run.noise.append(gradient_noise(algorithm, policy, trained, signal, size))


def gradient_noise(
    algorithm: Algorithm, policy: Policy, batch: Batch, signal: Signal, size: int
) -> tuple[float, float]:
    """Returns (tr Cov / E|g|^2, |E g|^2 / E|g|^2) of one unit's gradient, both unbiased above.

    A unit is `size` consecutive rows: a group, or `PROBE_STEPS` single steps. The ratio of the two,
    over the units in an iteration, is the noise of an iteration's gradient.
    """
    trained = [t for g in policy.parameters() if g.role == "policy" for t in g.tensors]
    total = [torch.zeros_like(tensor) for tensor in trained]
    square, units = 0.0, len(batch) // size
    for index in range(units):
        part = batch.narrow(index * size, size)
        rows = {name: tensor.narrow(0, index * size, size) for name, tensor in signal.items()}
        loss = algorithm.loss(view(policy, part), part, rows)
        gradients = torch.autograd.grad(loss.value, trained, allow_unused=True)
        for place, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                place += gradient
                square += float((gradient.double() ** 2).sum())
    if square == 0.0 or units < 2:
        return 0.0, 0.0
    second = square / units
    mean_square = sum(float((place.double() / units).pow(2).sum()) for place in total)
    covariance = (second - mean_square) * units / (units - 1)
    return covariance / second, (mean_square - covariance / units) / second


def noise_of_iteration(run: Run) -> float | None:
    """Returns the noise of an iteration's gradient, mean over the probes; None without any."""
    if not run.noise or not run.cost.iterations:
        return None
    spread, signal = np.mean(np.array(run.noise), axis=0)
    units = float(run.algorithm.config.contexts)
    if by_steps(run.algorithm.needs, run.policy.stepwise):
        units = run.cost.steps / run.cost.iterations / PROBE_STEPS
    return float(spread / signal / units) if signal > 0 else None
