"""Length-normalised DPO: log-ratios divided by the length of their responses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import log_uniform, register_algorithm, shared
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets


@register_algorithm("dpo-norm")
class DPONorm(PairMethod):
    """DPO on mean log-ratios, as Tulu 3 trains (arXiv 2411.15124).

    -log sigmoid(beta (r_w / |y_w| - r_l / |y_l|)), r the log-ratio of a whole response, so that a
    long answer's ratio counts no more than a short one's. Ours: beta 5; where all responses have
    six steps 3, which is six times dpo's there, and so the same method.
    """

    source = "Lambert et al., arXiv 2411.15124; TRL 1.16 DPOTrainer, sigmoid_norm"
    departures = FRESH_PAIRS
    presets = presets(exact={"beta": 3.0})
    spaces = shared.spaces({"beta": log_uniform(0.1, 50.0)})

    class Config(PairMethod.Config):
        """DPO's settings; a mean over steps takes a larger beta than a sum."""

        beta = 5.0

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        return -F.logsigmoid(self.config.beta * pairs.mean_margin)
