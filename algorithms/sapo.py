"""SAPO: a soft gate where GRPO has a clip."""

from __future__ import annotations

from pairbench import log_uniform, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("sapo")
class SAPO(GRPO):
    """Soft adaptive policy optimisation (arXiv 2511.20347).

    -4 A sigmoid(tau (ratio - 1)) / tau, tau 1 where A > 0 and 1.05 where not: the slope is the
    policy gradient's at a ratio of 1 and fades on both sides. `grpo` with other defaults. As TRL
    1.16 has it: a mean over responses of their means, and no KL.
    """

    source = "Gao et al., arXiv 2511.20347; TRL 1.16 GRPOTrainer, sapo"
    presets = shared.presets()
    spaces = shared.spaces(
        {"sapo_tau_positive": log_uniform(0.2, 10.0), "sapo_tau_negative": log_uniform(0.2, 10.0)}
    )

    class Config(GRPO.Config):
        """GRPO's settings at SAPO's values; the clip range has no effect."""

        aggregation = "sapo"
        beta = 0.0
