"""BRAIn: the group's self-normalised posterior as a target for the policy's weights on it."""

from __future__ import annotations

import math
from typing import Literal

import torch

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("brain")
class BRAIn(Algorithm):
    """Bayesian reward-conditioned amortised inference (arXiv 2402.02479), on-policy.

    The source's, by a secondary account: the posterior of the initial policy under scores r is
    pi_sft e^(r / beta); on G samples it has the weights alpha_i proportional to e^(r_i / beta)
    pi_sft / pi_old, the policy has p_i proportional to pi_theta / pi_old, both normalised in the
    group, and KL(alpha || p) is minimised, whose gradient is the sum of (p_i - alpha_i) grad log
    pi_theta. Ours: samples are drawn anew each iteration from pi_old; `prior="sampler"` puts pi_old
    in the place of pi_sft, so that an iteration is a step from where the policy is instead of a
    pull back to where it began (control and tabular presets, as for dpo); beta 1, the paper's being
    unknown to us, and .3 for control tasks, whose scores differ less within a group (one pilot).
    """

    source = "BRAIn, arXiv 2402.02479 (self-normalised posterior; formula from a secondary source)"
    departures = (
        "On control tasks and the bandit the posterior is that of the last policy, not of the "
        "initial one; beta is ours."
    )
    presets = shared.presets(
        control={"prior": "sampler", "beta": 0.3},
        tabular={"prior": "sampler"},
        exact={"beta": shared.PRICE},
    )
    spaces = shared.spaces({"beta": log_uniform(0.05, 5.0)})

    class Config(GroupConfig):
        """Symbols of the paper."""

        lr = 1e-6
        beta: float = Field(1.0, gt=0, description="temperature of scores, in their units")
        prior: Literal["sft", "sampler"] = Field(
            "sft", description="whose posterior: the initial policy's, or the sampler's"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.prior == "sft")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "target" (B,) alpha, "log_base" (B,) log 1 / G, and "scale" (B, T) the mask."""
        config = self.config
        prior = batch.need("old_logp" if config.prior == "sampler" else "ref_logp")
        log_base = torch.full_like(batch.old_logp[:, 0], -math.log(config.group_size))
        weight = ((prior - batch.old_logp) * batch.mask).sum(1)
        target = o.tilted_target(
            log_base, batch.need("score") / config.beta + weight, config.group_size
        )
        return {"target": target, "log_base": log_base, "scale": batch.mask}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean over groups of KL(alpha || p), nats."""
        return Loss(o.fit_group_target(output, batch, signal, self.config.group_size, "forward"))
