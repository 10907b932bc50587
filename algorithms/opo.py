"""OPO: a policy gradient with the baseline that has the least variance."""

from __future__ import annotations

from torch import Tensor

from pairbench import Batch, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("opo")
class OPO(GRPO):
    """On-policy RL with optimal reward baseline (arXiv 2505.23585): A = r - sum l r / sum l.

    The variance of a policy gradient is least for E[|g|^2 r] / E[|g|^2], g the gradient of log pi;
    with |g|^2 in proportion to the length l that is the group's mean of scores weighted by length.
    No standard deviation and no KL. The paper's: one gradient step for each batch, so that no
    ratio leaves 1. Ours: the iterations all methods share, with GRPO's clip, and a mean over steps.
    """

    source = "Hao et al., arXiv 2505.23585"
    departures = "Several gradient steps an iteration, clipped (the paper: one, exactly on-policy)."
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at OPO's values; `std` and `eps` have no effect."""

        aggregation = "dapo"
        beta = 0.0

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the group's mean weighted by length."""
        score = batch.need("score").view(-1, self.config.group_size)
        length = batch.mask.sum(1).view_as(score)
        first = score[:, :1]  # tied scores give exactly 0
        apart = score - first
        mean = (length * apart).sum(1, keepdim=True) / length.sum(1, keepdim=True).clamp_min(1.0)
        return (apart - mean).reshape(-1)
