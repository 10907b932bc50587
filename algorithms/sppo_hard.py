"""SPPO: log-ratios regressed on whether a response has won."""

from __future__ import annotations

from torch import Tensor

from pairbench import register_algorithm
from pairbench.pairwise import PairMethod, Pairs, presets, spaces


@register_algorithm("sppo-hard")
class SPPO(PairMethod):
    """Self-play preference optimisation with hard labels (arXiv 2405.00675, equation 4.7).

    (r_w - 1 / 2 beta)^2 + (r_l + 1 / 2 beta)^2, r the log-ratio to the reference, beta the inverse
    of the paper's eta, and a chance of winning of 1 or 0 where the paper estimates one. The paper's
    rounds, each with the last one's policy as reference and sampler, are `data` on-policy and
    `reference` sampler.
    """

    source = "Wu et al., arXiv 2405.00675, equation 4.7; TRL 1.16 DPOTrainer, sppo_hard"
    departures = "Chances of winning are 1 and 0 (the paper: estimated by a model of preferences)."
    presets = presets()
    spaces = spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        target = 0.5 / self.config.beta
        return (pairs.chosen - target).square() + (pairs.rejected + target).square()
