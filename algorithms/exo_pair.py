"""EXO: the reverse KL to what the labels say, for pairs."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("exo-pair")
class EXO(PairMethod):
    """Efficient exact optimisation (arXiv 2402.00856, equation 16, K = 2).

    KL(p || q) of p = sigmoid(beta margin), the chance that the policy gives the preferred response
    of the two, to the label's q = 1 - e. DPO is the other direction of this divergence. The
    paper's: e .001.
    """

    source = "Ji et al., arXiv 2402.00856, equation 16; TRL 1.16 DPOTrainer, exo_pair"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    class Config(PairMethod.Config):
        """DPO's settings and the paper's epsilon."""

        label_smoothing: float = Field(
            1e-3,
            gt=0,
            lt=0.5,
            description="epsilon, what the label leaves to the rejected response",
        )

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        logits, share = self.config.beta * pairs.margin, self.config.label_smoothing
        win = F.logsigmoid(logits) - math.log1p(-share)
        lose = F.logsigmoid(-logits) - math.log(share)
        return logits.sigmoid() * win + (-logits).sigmoid() * lose
