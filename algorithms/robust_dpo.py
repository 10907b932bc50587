"""Robust DPO: an unbiased loss where a known share of labels is flipped."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, SMOOTHING, PairMethod, Pairs, presets, spaces


@register_algorithm("robust-dpo")
class RobustDPO(PairMethod):
    """Provably robust DPO (arXiv 2403.00409): unbiased where labels are flipped at random.

    Its mean over flipped labels is DPO's loss of the true ones:
    ((1 - e) l(m) - e l(-m)) / (1 - 2e), l(m) = -log sigmoid(beta m), m the margin. cDPO averages
    where this subtracts. The paper's: e .1.
    """

    source = "Chowdhury et al., arXiv 2403.00409; TRL 1.16 DPOTrainer, robust"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces({"label_smoothing": SMOOTHING})

    class Config(PairMethod.Config):
        """DPO's settings and the paper's epsilon."""

        label_smoothing: float = Field(
            0.1, ge=0, lt=0.5, description="epsilon, chance that a label is flipped"
        )

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        logits, share = self.config.beta * pairs.margin, self.config.label_smoothing
        loss = share * F.logsigmoid(-logits) - (1.0 - share) * F.logsigmoid(logits)
        return loss / (1.0 - 2.0 * share)
