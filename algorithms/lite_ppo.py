"""Lite PPO: two tricks on a policy gradient without a critic, and nothing else."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("lite-ppo")
class LitePPO(GRPO):
    """Lite PPO (Tricks or traps?, arXiv 2508.08221): the group's mean, the batch's deviation.

    The paper's: scores less their group's mean over the standard deviation of the whole batch, and
    a mean over all steps of the batch. `grpo` with other defaults. Ours: GRPO's clip, and no KL.
    """

    source = "Liu et al., arXiv 2508.08221; TRL 1.16 GRPOTrainer, scale_rewards batch"
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at Lite PPO's values."""

        std = "batch"
        aggregation = "dapo"
        beta = 0.0
