"""Soft-Pair-GRPO: GRPO on the outcomes of comparisons instead of scores."""

from __future__ import annotations

from typing import ClassVar, Literal

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
)
from pairbench.algorithms.grpo import GRPO


@register_algorithm("soft-pair-grpo")
class SoftPairGRPO(GRPO):
    """Soft-Pair-GRPO (arXiv 2605.06375): GRPO with pair rewards +1 / -1 and a KL to pi_old.

    The paper's: reward +1 for the preferred and -1 for the rejected member of a pair, PPO's clip,
    and beta KL(pi_theta || pi_old). Ours, where the paper is silent: a member of several pairs
    receives its mean reward, (wins - losses) / (G - 1) under "all-pairs"; the clip range .2; and
    the KL is exact where the policy gives it, else k3, averaged over steps. At G = 2 the
    advantages are GRPO's with population std and eps 0 (with sample std they are +-.7071).
    """

    source = "Yu, arXiv 2605.06375 (Soft-Pair-GRPO)"
    departures = (
        "A member of several pairs receives its mean reward, and the clip range is .2: the "
        "paper is silent on both."
    )
    presets: ClassVar[Presets] = {
        **shared.presets({"log_std_floor": -20.0}, critic_free={"log_std_floor": None}),
        "exact@comparisons": {"pairing": "disjoint-pairs"},
    }
    spaces = shared.spaces({**shared.CLIPS, "beta": shared.KL_WEIGHT})

    class Config(GRPO.Config):
        """GRPO's settings; `std`, `eps` and `penalty` have no effect here."""

        lr = 1e-5
        beta: float = Field(0.01, ge=0, description="weight of KL(pi_theta || pi_old)")
        pairing: Literal["all-pairs", "disjoint-pairs"] = Field(
            "all-pairs", description="which pairs of a group are compared"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "comparisons", self.config.pairing)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the mean of the +1 and -1 rewards of the pairs a response could be in."""
        opponents = self.config.group_size - 1 if self.config.pairing == "all-pairs" else 1
        return o.net_wins(batch.need("pairs"), len(batch), batch.mask.dtype) / opponents

    def regulariser(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> Tensor:
        """Returns KL(pi_theta || pi_old), the mean over steps."""
        return o.kl_to_old(output, batch)
