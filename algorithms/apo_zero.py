"""APO-zero: preferred responses go up and rejected ones down."""

from __future__ import annotations

from torch import Tensor

from pairbench import register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("apo-zero")
class APOZero(PairMethod):
    """Anchored preference optimisation, zero (arXiv 2408.06266, equation 7).

    1 - sigmoid(r_w) + sigmoid(r_l) with r = beta x log-ratio: for data whose preferred responses
    are better than the policy's own.
    """

    source = "D'Oosterlinck et al., arXiv 2408.06266, equation 7; TRL 1.16 DPOTrainer, apo_zero"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        beta = self.config.beta
        return (-beta * pairs.chosen).sigmoid() + (beta * pairs.rejected).sigmoid()
