"""AMIR-GRPO: GRPO and a DPO-like loss on the ranked pairs inside each group."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field

from pairbench import objectives as o
from pairbench.algorithm import Loss, Needs, Presets
from pairbench.algorithms.grpo import CLIPS, GRPO, group_presets
from pairbench.batch import Batch, Signal
from pairbench.errors import PairBenchError
from pairbench.policy import PolicyOutput
from pairbench.registry import register_algorithm
from pairbench.space import Spaces, log_uniform


@register_algorithm("amir-grpo")
class AMIRGRPO(GRPO):
    """AMIR-GRPO (arXiv 2601.03661): GRPO with a regulariser on pairs mined from its own groups.

    The source's, after its authors' code: the GRPO loss plus lambda times the mean of
    -log sigmoid(beta (S_i - S_j)) over the pairs of a group whose scores differ by more than a
    margin, S the summed log-probability; beta .2, margin 2, lambda .01. Ours: lambda stays as it is
    given. The code moves it between .005 and .05 from step to step to hold the ratio of the two
    losses; that is memory from one batch to the next, which a method here does not have, and the
    ratio has no sense where GRPO's loss is negative. The presets' margin is 0, for the scores of
    these tasks have no unit in which 2 would be large. A density's S counts the unit of an action.
    """

    source = "AMIR-GRPO, arXiv 2601.03661"
    presets: ClassVar[Presets] = group_presets(
        control={"beta": 0.0, "std": "population", "eps": 1e-8, "margin": 0.0},
        language={"margin": 0.0},
        tabular={"beta": 0.0, "std": "population", "eps": 1e-8, "margin": 0.0},
    )
    spaces: ClassVar[Spaces] = {
        **GRPO.spaces,
        "any": {**CLIPS, "lam": log_uniform(1e-3, 0.1), "pair_beta": log_uniform(0.05, 1.0)},
    }

    class Config(GRPO.Config):
        """GRPO's settings, `beta` being its own, and those of the pairs."""

        lam: float = Field(0.01, ge=0, description="lambda, weight of the pairs' loss")
        pair_beta: float = Field(0.2, gt=0, description="inverse temperature of the pairs' loss")
        margin: float = Field(2.0, ge=0, description="scores of a pair differ by more than this")
        pair_reference: bool = Field(
            False, description="log-ratios to the reference in place of log-probabilities"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        needs = super().needs
        return replace(needs, reference=needs.reference or self.config.pair_reference)

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns GRPO's and "score" (B,), by which pairs are ranked."""
        if self.config.pair_reference and batch.ref_logp is None:
            raise PairBenchError(
                f"{self.name}.pair_reference needs a batch with ref_logp: "
                "have the task's collect() fill it when needs.reference"
            )
        return {**super().prepare(batch, progress, iteration), "score": self.scores(batch)}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns GRPO's loss + lambda x the pairs' mean loss."""
        config, logp = self.config, output.logp
        if config.pair_reference:
            assert batch.ref_logp is not None
            logp = logp - batch.ref_logp
        pairs = o.ranked_pairs_loss(
            (logp * batch.mask).sum(1),
            signal["score"],
            config.group_size,
            config.pair_beta,
            config.margin,
        )
        grpo = super().loss(output, batch, signal)
        return Loss(torch.add(grpo.value, pairs, alpha=config.lam), grpo.diagnostics)
