"""TRL's bnpo: GRPO whose loss is a mean over the steps of each minibatch."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("bnpo")
class BNPO(GRPO):
    """GRPO with TRL 1.16's loss type bnpo: a sum over the steps of a minibatch over their number.

    `grpo` with other defaults; where `dapo` divides by the steps of the whole batch, this counts
    each minibatch's own. Not Beta-normalised policy optimisation (arXiv 2506.02864), whose name it
    shares. Ours: no KL.
    """

    source = "TRL 1.16 GRPOTrainer, bnpo"
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at these values."""

        aggregation = "bnpo"
        beta = 0.0
