"""APO-down: both responses go down, the rejected one further."""

from __future__ import annotations

from torch import Tensor

from pairbench import register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("apo-down")
class APODown(PairMethod):
    """Anchored preference optimisation, down (arXiv 2408.06266, equation 8).

    sigmoid(r_w) + 1 - sigmoid(r_w - r_l) with r = beta x log-ratio: for data whose preferred
    responses are worse than the policy's own.
    """

    source = "D'Oosterlinck et al., arXiv 2408.06266, equation 8; TRL 1.16 DPOTrainer, apo_down"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        beta = self.config.beta
        return (beta * pairs.chosen).sigmoid() + (-beta * pairs.margin).sigmoid()
