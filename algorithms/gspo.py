"""GSPO: GRPO with one importance ratio for a whole response, its tokens' geometric mean."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pairbench import objectives as o
from pairbench.algorithm import Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, LEARNING_RATES, group_presets
from pairbench.registry import register_algorithm
from pairbench.space import Spaces, log_uniform

SHORT = {"clip_low": 0.2, "clip_high": 0.2}
"""Clip range where a response has few steps: the source's 3e-4 is for means over long ones."""


@register_algorithm("gspo")
class GSPO(GRPO):
    """Group sequence policy optimisation (arXiv 2507.18071).

    The paper's: the ratio s_i = (pi_theta(y_i) / pi_old(y_i))^(1 / L_i), clipped once a response to
    [1 - 3e-4, 1 + 4e-4], four minibatches an iteration, no KL penalty. As TRL 1.16 has it: sample
    std and eps 1e-4. Ours: on control tasks and the bandit, whose responses have 1 to 16 steps,
    GRPO's clip range, for the paper's would stop an iteration after its first step.
    """

    source = "Zheng et al., arXiv 2507.18071; TRL 1.16 GRPOTrainer, sequence level"
    presets: ClassVar[Presets] = group_presets(
        control={**SHORT, "std": "population", "eps": 1e-8},
        tabular={**SHORT, "std": "population", "eps": 1e-8},
    )
    spaces: ClassVar[Spaces] = {
        **LEARNING_RATES,
        "any": CLIPS,
        "language": {
            **LEARNING_RATES["language"],
            "clip_low": log_uniform(1e-4, 0.1),
            "clip_high": log_uniform(1e-4, 0.1),
        },
    }

    class Config(GRPO.Config):
        """GRPO's settings at GSPO's values."""

        minibatches: int = Field(4, ge=1, description="gradient steps per pass")
        clip_low: float = Field(3e-4, gt=0, lt=1, description="epsilon below 1")
        clip_high: float = Field(4e-4, gt=0, lt=1, description="epsilon above 1")
        ratio_level: o.RatioLevel = Field(
            "sequence_mean",
            description="ratio per step, exp of the mean log-ratio, or of whole responses",
        )
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference")
