"""NCA: each response classified by itself, against noise."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("nca-pair")
class NCA(PairMethod):
    """Noise contrastive alignment for pairs (arXiv 2402.05369).

    -log sigmoid(r_w) - (log sigmoid(-r_w) + log sigmoid(-r_l)) / 2 with r = beta x log-ratio: it
    holds the likelihood of the preferred response up, where DPO looks at the margin alone.
    """

    source = "Chen et al., arXiv 2402.05369; TRL 1.16 DPOTrainer, nca_pair"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        win, lose = self.config.beta * pairs.chosen, self.config.beta * pairs.rejected
        return -F.logsigmoid(win) - 0.5 * (F.logsigmoid(-win) + F.logsigmoid(-lose))
