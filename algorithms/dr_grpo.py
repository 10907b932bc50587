"""Dr.GRPO: GRPO without the two divisions that bias it, by the group's std and by the length."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pairbench import objectives as o
from pairbench.algorithm import Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, LEARNING_RATES, group_presets
from pairbench.registry import register_algorithm
from pairbench.space import Spaces


@register_algorithm("dr-grpo")
class DrGRPO(GRPO):
    """Dr.GRPO (arXiv 2503.20783): advantages r - mean, sums over tokens divided by a constant.

    The paper's: no division by the standard deviation, none by a response's own length, and no KL
    penalty. As TRL 1.16 has it: the constant is B times the longest response. Ours: where
    `max_length` is not given, that is the padded length of the iteration's batch.
    """

    source = "Liu et al., arXiv 2503.20783; TRL 1.16 GRPOTrainer, dr_grpo"
    presets: ClassVar[Presets] = group_presets()
    spaces: ClassVar[Spaces] = {**LEARNING_RATES, "any": CLIPS}

    class Config(GRPO.Config):
        """GRPO's settings at Dr.GRPO's values; `eps` has no effect while `std` is none."""

        aggregation: o.Aggregation = Field("dr_grpo", description="loss type, by TRL's name")
        std: o.Std = Field("none", description="standard deviation that scales advantages")
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference")
