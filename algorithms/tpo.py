"""TPO: the sampler's weights on a group, tilted by normalised scores, as the policy's target."""

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
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("tpo")
class TPO(Algorithm):
    """Target policy optimisation (arXiv 2604.06159).

    The source's, as its author's code has it: q_i proportional to p_old,i e^(u_i) on a group of
    scored responses, u the score's distance from the group's mean in population standard deviations
    (0 in a tied group), p the softmax over the group of log pi_theta, and the cross-entropy of q
    and p, whose gradient in the group's logits is p - q. So p_old is pi_old restricted to the group
    (`base="restricted"`).

    Ours is `base="snis"`, the row tpo-snis of the suites: that restriction counts pi_old twice
    where responses are samples of it, leaves one of them almost all the mass where they are long,
    and depends on the unit of an action. There p_old is uniform and p are the self-normalised
    importance weights of pi_theta, as in brain and hard-pair-grpo.
    """

    source = "Kaddour, Target Policy Optimization, arXiv 2604.06159, and its code (JeanKaddour/tpo)"
    presets = shared.presets()
    spaces = shared.spaces()

    class Config(GroupConfig):
        """Settings."""

        lr = 1e-6
        base: Literal["restricted", "snis"] = Field(
            "restricted", description="p_old: pi_old restricted to the group, or uniform"
        )
        std: o.Std = Field("population", description="standard deviation that scales u")
        eps: float = Field(1e-8, ge=0, description="added to it")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "target" (B,) q, "log_base" (B,) log p_old, "scale" (B, T) the mask.

        And "entropy" (B,), -q log q, which makes a divergence to q a cross-entropy.
        """
        config = self.config
        size = config.group_size
        if config.base == "snis":
            log_base = torch.full_like(batch.old_logp[:, 0], -math.log(size))
        else:
            log_base = (batch.old_logp * batch.mask).sum(1).view(-1, size).log_softmax(1).view(-1)
        u = o.normalise_groups(batch.need("score"), size, config.std, config.eps)
        target = o.tilted_target(log_base, u, size)
        return {
            "target": target,
            "log_base": log_base,
            "scale": batch.mask,
            "entropy": -target * target.log(),
        }

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean over groups of -sum q log p, nats."""
        size = self.config.group_size
        divergence = o.fit_group_target(output, batch, signal, size, "forward")
        entropy = signal["entropy"]
        return Loss(divergence + entropy.sum() * (size / len(entropy)))
