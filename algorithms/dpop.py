"""DPO-Positive: DPO that pays where the preferred response loses likelihood."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("dpop")
class DPOP(PairMethod):
    """DPO-Positive (Smaug, arXiv 2402.13228, equation 3).

    -log sigmoid(beta (margin - lambda max(0, -r_w))), r_w the log-ratio of the preferred response:
    DPO may widen the margin while it lowers both, and this may not. The paper's: lambda 50, beta
    .3.
    """

    source = "Pal et al., arXiv 2402.13228, equation 3"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces({"lam": log_uniform(0.5, 500.0)})

    class Config(PairMethod.Config):
        """Symbols of the paper."""

        beta = 0.3
        lam: float = Field(50.0, ge=0, description="lambda, weight of a preferred response's fall")

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        fallen = torch.relu(-pairs.chosen)
        return -F.logsigmoid(self.config.beta * (pairs.margin - self.config.lam * fallen))
