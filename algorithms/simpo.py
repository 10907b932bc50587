"""SimPO: mean log-probabilities in place of log-ratios, and a margin to keep."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm, shared, uniform
from pairbench.pairwise import FreePairMethod, Pairs, free_presets


@register_algorithm("simpo")
class SimPO(FreePairMethod):
    """Simple preference optimisation (arXiv 2405.14734, equation 6), without a reference.

    -log sigmoid(beta (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma). The paper's: both, and
    beta of 2 to 10 with gamma / beta of .3 to 1.6. Ours: of those, beta 2 and gamma 1. Control
    tasks are left out: a density's mean logarithm has no scale that a margin could be meant on.
    """

    source = "Meng et al., arXiv 2405.14734, equation 6; TRL 1.16 CPOTrainer, simpo"
    departures = (
        "On the bandit, and where all responses can be enumerated, pairs are fresh (the paper: "
        "offline)."
    )
    presets = free_presets()
    spaces = shared.spaces({"beta": log_uniform(0.1, 20.0), "gamma": uniform(0.0, 5.0)})

    class Config(FreePairMethod.Config):
        """Symbols of the paper."""

        beta = 2.0
        gamma: float = Field(
            1.0, ge=0, description="margin, in units of beta x mean log-probability"
        )

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        mean = pairs.mean_margin
        return -F.logsigmoid(self.config.beta * mean - self.config.gamma)
