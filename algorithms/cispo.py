"""CISPO: the importance weight is clipped, not the step it weighs."""

from __future__ import annotations

from pairbench import log_uniform, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("cispo")
class CISPO(GRPO):
    """Clipped importance sampling policy optimisation (MiniMax-M1, arXiv 2506.13585, equation 4).

    -sg(min(ratio, cap)) A log pi, a mean over all steps of the batch: every step keeps a gradient.
    `grpo` with other defaults. As TRL 1.16 has it: only the upper end is clipped, at 5, and no KL.
    """

    source = "MiniMax, arXiv 2506.13585, equation 4; TRL 1.16 GRPOTrainer, cispo"
    presets = shared.presets()
    spaces = shared.spaces({"cispo_cap": log_uniform(1.02, 20.0)})

    class Config(GRPO.Config):
        """GRPO's settings at CISPO's values; the clip range has no effect."""

        aggregation = "cispo"
        beta = 0.0
