"""CoRPO: GRPO whose baseline never falls below what a correct response scores."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from pairbench import objectives as o
from pairbench.algorithm import Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, LEARNING_RATES, group_presets
from pairbench.batch import Batch
from pairbench.registry import register_algorithm
from pairbench.space import Spaces, uniform


@register_algorithm("corpo")
class CoRPO(GRPO):
    """Correctness-relative policy optimisation (arXiv 2511.04439): A = r - max(mean, r_min).

    From the paper's abstract: the group's mean as the baseline, clipped from below at a threshold
    of correctness, so that a failed response is never reinforced for being better than worse ones.
    Ours: no division by a standard deviation, GRPO's surrogate, no KL penalty, and r_min 0, which
    the abstract does not give: it must be set to a task's own scale of scores, and where every
    group's mean lies above it the method is GRPO without std. A tied group below r_min is pushed
    down.
    """

    source = (
        "Garg and Venkatesh, arXiv 2511.04439, abstract; std, KL and r_min: PairBench's reading"
    )
    presets: ClassVar[Presets] = group_presets()
    spaces: ClassVar[Spaces] = {
        **LEARNING_RATES,
        "any": {**CLIPS, "r_min": uniform(-2.0, 2.0)},
    }

    class Config(GRPO.Config):
        """GRPO's settings and the threshold; `std` and `eps` have no effect here."""

        r_min: float = Field(0.0, description="least score that is correct, in the task's units")
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference")

    config: Config

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the clamped mean of the group."""
        groups = o.scores(batch, self.name).view(-1, self.config.group_size)
        baseline = groups.mean(1, keepdim=True).clamp_min(self.config.r_min)
        return (groups - baseline).view(-1)
