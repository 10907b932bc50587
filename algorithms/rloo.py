"""RLOO: each response against the mean score of the others of its group."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from pairbench import objectives as o
from pairbench.algorithm import Needs, Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, KL_WEIGHT, LEARNING_RATES, group_presets
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.registry import register_algorithm
from pairbench.space import Spaces


@register_algorithm("rloo")
class RLOO(GRPO):
    """REINFORCE leave-one-out (arXiv 2402.14740): A_i = r_i - mean of the others' r_j.

    The paper's: that baseline, whole responses as actions, and a KL to the reference that is taken
    off the score. As TRL 1.16's RLOOTrainer has it: r = score - kl_reward x sum_t (log pi_old - log
    pi_ref), the ratio of whole responses, clip range .2, G = 2. Ours: on control tasks and the
    bandit no KL, as for GRPO. A group whose r are all equal has advantage 0.
    """

    source = "Ahmadian et al., arXiv 2402.14740; TRL 1.16 RLOOTrainer"
    presets: ClassVar[Presets] = group_presets(
        control={"kl_reward": 0.0},
        tabular={"kl_reward": 0.0},
    )
    spaces: ClassVar[Spaces] = {
        **LEARNING_RATES,
        "any": CLIPS,
        "language": {**LEARNING_RATES["language"], "kl_reward": KL_WEIGHT},
    }

    class Config(GRPO.Config):
        """GRPO's settings at RLOO's values; `std` and `eps` have no effect here."""

        group_size: int = Field(2, ge=2, description="G, responses per context, at least 2")
        kl_reward: float = Field(
            0.05, ge=0, description="TRL's beta: KL to the reference taken off the score, per nat"
        )
        ratio_level: o.RatioLevel = Field(
            "trajectory",
            description="ratio per step, exp of the mean log-ratio, or of whole responses",
        )
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference in the loss")

    config: Config

    @property
    def needs(self) -> Needs:
        reference = self.config.kl_reward > 0 or self.config.beta > 0
        return Needs("groups", "scores", reference=reference)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): G / (G - 1) times the distance from the group's mean, the same thing."""
        score, size = o.scores(batch, self.name), self.config.group_size
        if self.config.kl_reward:
            if batch.ref_logp is None:
                raise PairBenchError(
                    f"{self.name} needs a batch with ref_logp unless kl_reward is 0: "
                    "have the task's collect() fill it when needs.reference is set"
                )
            moved = (o.k1(batch.old_logp, batch.ref_logp) * batch.mask).sum(1)
            score = score - self.config.kl_reward * moved
        return o.normalise_groups(score, size, "none", 0.0) * (size / (size - 1))
