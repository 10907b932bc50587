"""Dr.GRPO: GRPO without the two divisions that bias it, by the group's std and by the length."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("dr-grpo")
class DrGRPO(GRPO):
    """Dr.GRPO (arXiv 2503.20783): advantages r - mean, sums over tokens divided by a constant.

    The paper's: no division by the standard deviation, none by a response's own length, and no KL
    penalty. As TRL 1.16 has it: the constant is B times the longest response. Ours: where
    `max_length` is not given, that is the padded length of the iteration's batch.
    """

    source = "Liu et al., arXiv 2503.20783; TRL 1.16 GRPOTrainer, dr_grpo"
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at Dr.GRPO's values; `eps` has no effect while `std` is none."""

        aggregation = "dr_grpo"
        std = "none"
        beta = 0.0
