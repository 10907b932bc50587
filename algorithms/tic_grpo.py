"""TIC-GRPO: GRPO with the importance ratio of the whole response in place of its tokens'."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pairbench import objectives as o
from pairbench.algorithm import Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, LEARNING_RATES, group_presets
from pairbench.registry import register_algorithm
from pairbench.space import Spaces


@register_algorithm("tic-grpo")
class TICGRPO(GRPO):
    """Trajectory-level importance-corrected GRPO (arXiv 2508.02833).

    From the paper's abstract: scores normalised in the group, and one ratio pi_theta(y) / pi_old(y)
    of the whole trajectory in place of its tokens', so that the gradient is one at the present
    policy. Ours, for the abstract does not give them: GRPO's clip of that ratio to [.8, 1.2], no
    factor 1 / L, population std with eps 1e-8, and no KL penalty.
    """

    source = "Pang and Jin, arXiv 2508.02833, abstract; clip, std and KL: PairBench's reading"
    presets: ClassVar[Presets] = group_presets()
    spaces: ClassVar[Spaces] = {**LEARNING_RATES, "any": CLIPS}

    class Config(GRPO.Config):
        """GRPO's settings at TIC-GRPO's values."""

        ratio_level: o.RatioLevel = Field(
            "trajectory",
            description="ratio per step, exp of the mean log-ratio, or of whole responses",
        )
        std: o.Std = Field("population", description="standard deviation that scales advantages")
        eps: float = Field(1e-8, ge=0, description="added to it")
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference")
