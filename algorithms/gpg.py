"""GPG: the plain policy gradient, its scale put right for groups that say nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import Batch, PolicyOutput, Signal, objectives as o, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("gpg")
class GPG(GRPO):
    """Group policy gradient (arXiv 2504.02546): -alpha A log pi, without a ratio or a clip.

    A = r - group mean over F, a mean over all steps of the batch. alpha = B / (B - M), M the
    responses of tied groups, undoes that these make the mean smaller. The paper's: F 1 (`std`
    none) or the group's deviation, and no KL. Ours: several passes over a batch, as for all
    methods, which nothing here corrects for.
    """

    source = "Chu et al., arXiv 2504.02546"
    departures = "Several gradient steps an iteration, without a ratio to correct for them."
    presets = shared.presets()
    spaces = shared.spaces()

    class Config(GRPO.Config):
        """GRPO's settings at GPG's values; clip range and `ratio_level` have no effect."""

        aggregation = "dapo"
        std = "none"
        beta = 0.0

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): GRPO's, times B / (B - M)."""
        score = batch.need("score").view(-1, self.config.group_size)
        telling = torch.count_nonzero(score.amax(1) > score.amin(1)).clamp_min(1)
        return super().advantages(batch) * (len(score) / telling)

    def surrogate(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the aggregated -A log pi, and no diagnostics."""
        loss = -signal["advantage"] * output.logp
        return o.aggregate(loss, signal["weight"], self.config.aggregation), {}
