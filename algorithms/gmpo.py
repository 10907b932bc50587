"""GMPO: the geometric mean of a response's clipped ratios in place of their arithmetic mean."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import (
    Batch,
    PolicyOutput,
    Signal,
    objectives as o,
    register_algorithm,
    shared,
    uniform,
)
from pairbench.algorithms.grpo import GRPO


@register_algorithm("gmpo")
class GMPO(GRPO):
    """Geometric-mean policy optimisation (arXiv 2507.20673).

    -A exp(mean over steps of c(log ratio)), c the clip to [-.4, .4] on the side that A would push
    it out of: one ratio that moves far moves the mean of logarithms less than that of ratios. As
    TRL 1.16 has it: a mean over responses; `clip_low` and `clip_high` are of log-ratios; no KL.
    """

    source = "Zhao et al., arXiv 2507.20673; TRL 1.16 GMPOTrainer"
    presets = shared.presets()
    spaces = shared.spaces({"clip_low": uniform(0.1, 0.8), "clip_high": uniform(0.1, 0.8)})

    class Config(GRPO.Config):
        """GRPO's settings at GMPO's values; the clip range is of log-ratios."""

        clip_low = 0.4
        clip_high = 0.4
        beta = 0.0

    def surrogate(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean over responses, and the share of log-ratios outside the range."""
        config, advantage = self.config, signal["advantage"]
        clipped = log_ratio.clamp(-config.clip_low, config.clip_high)
        held = torch.where(
            advantage > 0, torch.minimum(log_ratio, clipped), torch.maximum(log_ratio, clipped)
        )
        length = batch.mask.sum(1, keepdim=True)
        mean = (held * batch.mask).sum(1, keepdim=True) / length.clamp_min(1.0)
        loss = -(advantage * mean.exp() * (length > 0)).sum() / len(mean)
        outside = o.masked_mean((clipped != log_ratio).to(mean.dtype), batch.mask).detach()
        return loss, {"clip_fraction": outside}
