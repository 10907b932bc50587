"""VESPO: a smooth weight of the whole response's ratio in place of a clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairbench import (
    Batch,
    Field,
    PolicyOutput,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)
from pairbench.algorithms.grpo import GRPO

LEAST, MOST = math.log(1e-8), 20.0
"""Log-ratios of whole responses beyond which TRL looks no further."""


@register_algorithm("vespo")
class VESPO(GRPO):
    """Variational sequence-level soft policy optimisation (arXiv 2602.10693), as TRL 1.16 has it.

    -sg(phi(w)) A log pi, a mean over all steps of the batch, w the ratio of the whole response and
    phi(w) = w^k e^(lambda (1 - w)), which is 1 at w = 1: k 2 and lambda 3 where A >= 0, 3 and 2
    where not. No KL.
    """

    source = "arXiv 2602.10693; TRL 1.16 GRPOTrainer, vespo"
    presets = shared.presets()
    spaces = shared.spaces(
        {"k_positive": log_uniform(0.3, 10.0), "k_negative": log_uniform(0.3, 10.0)}
    )

    class Config(GRPO.Config):
        """GRPO's settings at VESPO's values; clip range and `ratio_level` have no effect."""

        aggregation = "dapo"
        beta = 0.0
        k_positive: float = Field(2.0, gt=0, description="power of w where A >= 0")
        lam_positive: float = Field(3.0, gt=0, description="lambda, decay where A >= 0")
        k_negative: float = Field(3.0, gt=0, description="power of w where A < 0")
        lam_negative: float = Field(2.0, gt=0, description="lambda, decay where A < 0")

    config: Config

    def surrogate(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the aggregated -phi A log pi, and no diagnostics."""
        config, advantage = self.config, signal["advantage"]
        steps = (output.logp - batch.old_logp).detach().clamp(-MOST, MOST) * batch.mask
        w = steps.sum(1, keepdim=True).clamp(LEAST, MOST)
        up = config.k_positive * w + config.lam_positive * (1.0 - w.exp())
        down = config.k_negative * w + config.lam_negative * (1.0 - w.exp())
        loss = -torch.where(advantage >= 0, up, down).exp() * advantage * output.logp
        return o.aggregate(loss, signal["weight"], config.aggregation), {}
