"""DPPO with the KL divergence of "this token or another" in place of total variation."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import log_uniform, register_algorithm, shared
from pairbench.algorithms.dppo_tv import DPPOTV


@register_algorithm("dppo-kl")
class DPPOKL(DPPOTV):
    """Divergence proximal policy optimisation, binary KL (arXiv 2602.04879).

    As `dppo-tv`, with p log(p / q) + (1 - p) log((1 - p) / (1 - q)), p the sampler's probability of
    the step and q the policy's, and verl's range of .05 each way.
    """

    source = "arXiv 2602.04879, and verl's dppo_kl"
    presets = DPPOTV.presets
    spaces = shared.spaces(
        {"clip_low": log_uniform(3e-3, 0.5), "clip_high": log_uniform(3e-3, 0.5)}
    )

    class Config(DPPOTV.Config):
        """DPPO's settings; the clip range is of the KL, nats."""

        clip_low = 0.05
        clip_high = 0.05

    def divergence(self, logp: Tensor, old: Tensor) -> Tensor:
        """Returns (B, T) the KL of two outcomes, nats."""
        p, q = old.exp(), logp.exp()
        return p * (old - logp) + (1.0 - p) * torch.log((1.0 - p + 1e-8) / (1.0 - q + 1e-8))
