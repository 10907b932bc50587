"""KTO: each response by itself is desirable or not, as a gain or a loss against the usual."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, LabelMethod, presets, spaces


@register_algorithm("kto")
class KTO(LabelMethod):
    """Kahneman-Tversky optimisation (arXiv 2402.01306, equation 7), for labels without pairs.

    The mean over responses of lambda_D (1 - sigmoid(beta (r - z))) if desirable and lambda_U
    (1 - sigmoid(beta (z - r))) if not, r the log-ratio to the reference and z = max(0, KL) without
    a gradient. The paper estimates KL(pi || pi_ref) by log-ratios of other prompts' responses, for
    which a policy would have to look at more than its batch. Ours: the policy's exact KL along the
    responses where it can give it, else the mean of their own log-ratios.
    """

    source = "Ethayarajh et al., arXiv 2402.01306, equation 7; TRL 1.16 KTOTrainer"
    departures = "z is not estimated from mismatched prompts and responses. " + FRESH_PAIRS
    presets = presets()
    spaces = spaces({"desirable": log_uniform(0.5, 2.0)})

    class Config(LabelMethod.Config):
        """Symbols of the paper."""

        desirable: float = Field(1.0, ge=0, description="lambda_D, weight of desirable responses")
        undesirable: float = Field(1.0, ge=0, description="lambda_U, of undesirable ones")

    config: Config

    def usual(self, ratios: Tensor, kl: Tensor | None) -> Tensor:
        """Returns z, a scalar without a gradient, from log-ratios (N,) or the exact KL."""
        return (ratios.sum() / max(len(ratios), 1) if kl is None else kl).detach().clamp_min(0.0)

    def label_loss(self, desirable: Tensor, undesirable: Tensor, kl: Tensor | None) -> Tensor:
        """Returns the weighted mean over all responses."""
        config, ratios = self.config, torch.cat([desirable, undesirable])
        z = self.usual(ratios, kl)
        gains = config.desirable * torch.sigmoid(config.beta * (z - desirable))
        pains = config.undesirable * torch.sigmoid(config.beta * (undesirable - z))
        return (gains.sum() + pains.sum()) / max(len(ratios), 1)
