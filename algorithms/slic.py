"""SLiC: a hinge in place of a sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, spaces


@register_algorithm("slic")
class SLiC(PairMethod):
    """Sequence likelihood calibration with log-ratios: max(0, 1 - beta margin).

    The hinge is SLiC-HF's (arXiv 2305.10425), the log-ratios to a reference are RSO's (arXiv
    2309.06657). Left out: SLiC-HF's likelihood of a target response.
    """

    source = (
        "Zhao et al., arXiv 2305.10425; Liu et al., arXiv 2309.06657; TRL 1.16 DPOTrainer, hinge"
    )
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        return torch.relu(1.0 - self.config.beta * pairs.margin)
