"""f-HAL: f-GRPO on the policy's own groups, mixed with its offline loss on preference data."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from pairbench import (
    Batch,
    Field,
    Loss,
    Needs,
    PolicyOutput,
    Presets,
    Signal,
    objectives as o,
    register_algorithm,
    shared,
    uniform,
)
from pairbench.algorithms.f_grpo import FGRPO


@register_algorithm("f-hal")
class FHAL(FGRPO):
    """f-HAL (arXiv 2602.05946): lambda L_FDO + (1 - lambda) L_f-GRPO, one divergence for both.

    L_FDO is -mean g(u) of chosen responses + mean f*(g(u)) of rejected ones: two means, so pairs
    need not be pairs. Lambda on FDO and .5 as its best value are from secondary sources. Ours:
    each on-policy group comes with one offline pair, and everything that f-GRPO's class says.
    """

    source = "Haldar et al., arXiv 2602.05946 (secondary sources); KLDO: arXiv 2502.00657"
    departures = "As f-grpo; each group comes with one offline pair."
    presets: ClassVar[Presets] = {
        "language": shared.LANGUAGE,
        "language@smollm2-135m": shared.LANGUAGE_SMOLLM2,
        "tabular": shared.TABULAR,
        "exact": {**shared.EXACT, "beta": shared.PRICE},
    }
    spaces = shared.spaces({**FGRPO.spaces["any"], "lam": uniform(0.1, 0.9)})

    class Config(FGRPO.Config):
        """f-GRPO's settings and lambda."""

        lam: float = Field(0.5, ge=0, le=1, description="lambda, weight of the offline loss")

    config: Config

    @property
    def needs(self) -> Needs:
        reference = self.config.reference == "sft"
        return Needs("groups+pairs", "scores", offline=True, reference=reference)

    def offline_loss(self, output: PolicyOutput, pairs: Batch) -> Tensor:
        """Returns L_FDO of a batch of pairs; 0 if it holds none."""
        numbers = pairs.need("pairs")
        chosen, rejected = self.implicit_reward(output, pairs)[numbers].unbind(1)
        divergence = self.config.divergence
        gap = o.conjugate_critic(rejected, divergence) - o.critic(chosen, divergence)
        return gap.sum() / max(len(numbers), 1)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mixture of both losses."""
        assert output.offline is not None
        assert batch.offline is not None
        offline = self.offline_loss(output.offline, batch.offline)
        online = self.group_loss(output, batch, signal)
        lam = self.config.lam
        return Loss(lam * offline + (1.0 - lam) * online)
