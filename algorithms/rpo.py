"""RPO: DPO and the likelihood of the preferred response."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("rpo")
class RPO(PairMethod):
    """DPO with the likelihood of preferred responses (arXiv 2404.19733, equation 1).

    -log sigmoid(beta margin) + alpha NLL(y_w). The paper's: alpha 1, the NLL of a response over its
    length. Ours: its mean over the steps of all preferred responses, as TRL's sft loss has it. Why
    the second term keeps DPO from overoptimising is in arXiv 2405.16436.
    """

    source = (
        "Pang et al., arXiv 2404.19733; Liu et al., arXiv 2405.16436; TRL 1.16 DPOTrainer, "
        "sigmoid and sft"
    )
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces({"alpha": log_uniform(0.01, 3.0)})

    class Config(PairMethod.Config):
        """DPO's settings and the weight of the likelihood."""

        alpha: float = Field(1.0, ge=0, description="weight of the likelihood")

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        likelihood = self.config.alpha * pairs.nll()
        return likelihood - F.logsigmoid(self.config.beta * pairs.margin)
