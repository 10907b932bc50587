"""DPPO: a step is masked by how far its probability has moved, not by its ratio."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from pairbench import (
    Batch,
    Field,
    Needs,
    PolicyOutput,
    Presets,
    Signal,
    objectives as o,
    register_algorithm,
    shared,
    uniform,
)
from pairbench.algorithms.grpo import GRPO


@register_algorithm("dppo-tv")
class DPPOTV(GRPO):
    """Divergence proximal policy optimisation, binary total variation (arXiv 2602.04879).

    -sg(min(ratio, cap)) A log pi M, a mean over all steps of the batch. M is 0 where A pushes pi
    further from pi_old and |pi - pi_old|, the total variation of "this token or another", is past
    .15: a rare token's ratio may be large, and a likely one's is not. As verl has it: range .15
    each way and cap 20. Ours: advantages of GRPO, and no KL. A density has no such distance, so
    tasks with continuous actions skip it.
    """

    source = "arXiv 2602.04879, and verl's dppo_tv"
    presets: ClassVar[Presets] = {
        "language": shared.LANGUAGE,
        "language@smollm2-135m": shared.LANGUAGE_SMOLLM2,
        "tabular": shared.TABULAR,
        "exact": shared.EXACT,
    }
    spaces = shared.spaces({"clip_low": uniform(0.02, 0.4), "clip_high": uniform(0.02, 0.4)})

    class Config(GRPO.Config):
        """GRPO's settings at DPPO's values; the clip range is of the divergence."""

        clip_low = 0.15
        clip_high = 0.15
        aggregation = "dapo"
        beta = 0.0
        cap: float = Field(20.0, gt=1, description="largest ratio")

    config: Config

    @property
    def needs(self) -> Needs:
        return replace(super().needs, probabilities=True)

    def divergence(self, logp: Tensor, old: Tensor) -> Tensor:
        """Returns (B, T) how far each step's probability is from what it was."""
        return (logp.exp() - old.exp()).abs()

    def surrogate(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the aggregated loss of what is not masked, and the share that is."""
        config, advantage = self.config, signal["advantage"]
        logp, old = output.logp.detach(), batch.old_logp
        far = self.divergence(logp, old)
        up = (advantage > 0) & (logp > old) & (far > config.clip_high)
        down = (advantage <= 0) & (logp < old) & (far > config.clip_low)
        kept = (~(up | down)).to(logp.dtype)
        ratio = (logp - old).exp().clamp(max=config.cap)
        loss = o.aggregate(
            -ratio * advantage * output.logp * kept, signal["weight"], config.aggregation
        )
        return loss, {"clip_fraction": 1.0 - o.masked_mean(kept, batch.mask)}
