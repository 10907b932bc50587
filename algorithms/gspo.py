"""GSPO: GRPO with one importance ratio for a whole response, its tokens' geometric mean."""

from __future__ import annotations

from pairbench import log_uniform, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO

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
    departures = (
        "Language presets take two minibatches an iteration (the paper: four); where "
        "responses have few steps the clip range is GRPO's .2 (the paper: 3e-4 and 4e-4)."
    )
    presets = shared.presets(
        control={**SHORT, "std": "population", "eps": 1e-8},
        tabular={**SHORT, "std": "population", "eps": 1e-8},
        exact=SHORT,
    )
    spaces = shared.spaces(
        shared.CLIPS,
        language={"clip_low": log_uniform(1e-4, 0.1), "clip_high": log_uniform(1e-4, 0.1)},
    )

    class Config(GRPO.Config):
        """GRPO's settings at GSPO's values."""

        minibatches = 4
        clip_low = 3e-4
        clip_high = 4e-4
        ratio_level = "sequence_mean"
        beta = 0.0
