"""DiscoPOP: a loss of the margin that a search by a language model found."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("discopop")
class DiscoPOP(PairMethod):
    """Discovered preference optimisation, log-ratio modulated (arXiv 2406.08414, equation 5).

    (1 - s) (-log sigmoid(z)) + s e^-z with z = beta margin and s = sigmoid(z / tau): logistic for a
    pair that is judged wrong, exponential for one judged right. The paper's: tau .05. Where z = 0
    the slope is (1 - log 2) / 4 tau - 3 / 4, which pushes a margin down if tau is below .102: a
    policy that begins at its reference goes to z = -.12 first. Ours: tau .5 where pairs are fresh,
    for there every iteration begins at z = 0.
    """

    source = "Lu et al., arXiv 2406.08414, equation 5; TRL 1.16 DPOTrainer, discopop"
    departures = "Where pairs are fresh tau is .5 (the paper: .05). " + FRESH_PAIRS
    presets = presets(fresh={"tau": 0.5})
    spaces = spaces({"tau": log_uniform(0.02, 0.9)})

    class Config(PairMethod.Config):
        """DPO's settings and the paper's temperature."""

        tau: float = Field(0.05, gt=0, lt=1, description="temperature of the blend (discopop_tau)")

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        logits = self.config.beta * pairs.margin
        gate = logits / self.config.tau
        exponential = (F.logsigmoid(gate) - logits).exp()  # s e^-z, finite where e^-z is not
        return (-gate).sigmoid() * -F.logsigmoid(logits) + exponential
