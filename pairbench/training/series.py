"""What is kept of every iteration, and what it says of the whole run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pairbench.batch import ADVANTAGE, RETURN, Batch, Signal
from pairbench.errors import DivergedError
from pairbench.results.record import Stability
from pairbench.training.noise import noise_of_iteration
from pairbench.training.run import Run

SERIES = (
    "steps",
    "loss",
    "grad_norm",
    "kl_old",
    "kl_ref",
    "clip_fraction",
    "entropy",
    "advantage_variance",
    "explained_variance",
    "score",
    "lr",
)
"""Columns kept per iteration. Divergences and entropy are nats per step, after the update."""


def measure(
    run: Run, batch: Batch, signal: Signal, means: Mapping[str, float], lr: float
) -> list[float]:
    """Returns the row of the series for the iteration that has just ended.

    Args:
        signal: what `prepare` made of the part that was trained on.
        means: losses, gradient norms and diagnostics, means over the gradient steps.
        lr: the policy's learning rate in this iteration.

    Raises:
        DivergedError: something stopped being finite.
    """
    number = run.cost.iterations - 1
    for name, what in (("loss", "the loss"), ("grad_norm", "the gradient")):
        if not np.isfinite(means[name]):
            raise DivergedError(number, what)
    with torch.no_grad():
        output = run.policy(batch)
        if not bool(torch.isfinite(output.logp).all()):
            raise DivergedError(number, "the policy's log-probability")
        mask, steps = batch.mask, batch.mask.sum().clamp_min(1.0)
        values = {**means, "steps": run.cost.steps, "lr": lr}
        kl_old = output.kl_old
        if kl_old is None:
            kl_old = _k3(output.logp, batch.old_logp)
        values["kl_old"] = float((kl_old * mask).sum() / steps)
        kl_ref = output.kl_ref
        if kl_ref is None and batch.ref_logp is not None:
            kl_ref = _k3(output.logp, batch.ref_logp)
        if kl_ref is not None:
            values["kl_ref"] = float((kl_ref * mask).sum() / steps)
        if output.entropy is not None:
            values["entropy"] = float((output.entropy * mask).sum() / steps)
        if (advantage := signal.get(ADVANTAGE)) is not None and advantage.numel() > 1:
            values["advantage_variance"] = float(advantage.var())
        target = signal.get(RETURN)
        if target is not None and batch.value is not None and len(target) == len(batch):
            residual = (target - batch.value)[mask > 0]
            values["explained_variance"] = float(
                1 - residual.var() / target[mask > 0].var().clamp_min(1e-12)
            )
        if batch.score is not None:
            values["score"] = float(batch.score.mean())
        elif batch.step_reward is not None:
            values["score"] = float((batch.step_reward * mask).sum() / steps)
    return [values.get(name, float("nan")) for name in SERIES]


def stability(run: Run) -> Stability:
    """Sums the run up: noise over the probes, divergence over iterations, fall of the curve."""
    moved = np.array([row[SERIES.index("kl_old")] for row in run.series])
    best, drawdown = -np.inf, 0.0
    for point in run.curve:
        best = max(best, point.reward)
        drawdown = max(drawdown, best - point.reward)
    return Stability(
        gradient_noise=noise_of_iteration(run),
        kl_std=float(moved.std()) if len(moved) > 1 else None,
        kl_max=float(moved.max()) if len(moved) else None,
        drawdown=drawdown if len(run.curve) > 1 else None,
    )


def _k3(logp: Tensor, other: Tensor) -> Tensor:
    """Estimates KL(pi || other) per step from samples of pi (Schulman's k3), nats."""
    log_ratio = other - logp
    return torch.expm1(log_ratio) - log_ratio
