"""CoRPO: GRPO whose baseline never falls below what a correct response scores."""

from __future__ import annotations

from torch import Tensor

from pairbench import Batch, Field, register_algorithm, shared, uniform
from pairbench.algorithms.grpo import GRPO


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
        "Garg, Zhang, Neema, Bick, Venkatesh and Hestness, arXiv 2511.04439v3, abstract; std, KL "
        "and r_min: PairBench's reading"
    )
    departures = "r_min is 0 and there is no division by a std: the abstract gives neither."
    presets = shared.presets()
    spaces = shared.spaces({**shared.CLIPS, "r_min": uniform(-2.0, 2.0)})

    class Config(GRPO.Config):
        """GRPO's settings and the threshold; `std` and `eps` have no effect here."""

        beta = 0.0
        r_min: float = Field(0.0, description="least score that is correct, in the task's units")

    config: Config

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the clamped mean of the group."""
        groups = batch.need("score").view(-1, self.config.group_size)
        baseline = groups.mean(1, keepdim=True).clamp_min(self.config.r_min)
        return (groups - baseline).view(-1)
