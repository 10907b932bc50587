"""IPO: a margin that the squared loss holds at a target, where DPO's grows without end."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.dpo import DPO
from pairbench.pairwise import FRESH_PAIRS


@register_algorithm("ipo")
class IPO(DPO):
    """Identity preference optimisation (arXiv 2310.12036, equation 17): (margin - 1 / 2 beta)^2.

    `dpo` with another default of `loss_type`. The paper's margin is of sums over a response's
    steps; `loss_type="ipo-mean"` is TRL's, of means, which asks for the same target per step.
    """

    source = "Azar et al., arXiv 2310.12036, equation 17; TRL 1.16 DPOTrainer, ipo (ipo-mean)"
    departures = FRESH_PAIRS
    spaces = shared.spaces(DPO.spaces["any"])

    class Config(DPO.Config):
        """DPO's settings at IPO's values."""

        loss_type = "ipo"
