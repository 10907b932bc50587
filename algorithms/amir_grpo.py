"""AMIR-GRPO: GRPO and a DPO-like loss on the ranked pairs inside each group."""

from __future__ import annotations

from dataclasses import replace

import torch

from pairbench import (
    Batch,
    Field,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)
from pairbench.algorithms.grpo import GRPO


@register_algorithm("amir-grpo")
class AMIRGRPO(GRPO):
    """AMIR-GRPO (arXiv 2601.03661): GRPO with a regulariser on pairs mined from its own groups.

    The source's, after its authors' code: the GRPO loss plus lambda times the mean of
    -log sigmoid(beta (S_i - S_j)) over the pairs of a group whose scores differ by more than a
    margin, S the summed log-probability; beta .2, margin 2 by its command (1.5 by its code), lambda
    .01. Ours: lambda stays as it is given. The code moves it between .005 and .05 from step to step
    to hold the ratio of the two losses; that is memory from one batch to the next, which a method
    here does not have, and the ratio has no sense where GRPO's loss is negative. The presets'
    margin is 0, for the scores of these tasks have no unit in which 2 would be large. A density's S
    counts the unit of an action.
    """

    source = "AMIR-GRPO, arXiv 2601.03661"
    departures = (
        "Pairs may differ by any margin above 0 (the authors' command: 2, their code: 1.5), "
        "and lambda stays at .01, where the authors' code moves it. Where all responses can be "
        "enumerated, no std divides advantages and the KL weight is .5, the price for all methods."
    )
    presets = shared.presets(
        control={"beta": 0.0, "std": "population", "eps": 1e-8, "margin": 0.0},
        language={"margin": 0.0},
        tabular={"beta": 0.0, "std": "population", "eps": 1e-8, "margin": 0.0},
        exact={"beta": shared.PRICE, "std": "none", "margin": 0.0},
    )
    spaces = shared.spaces(
        {**shared.CLIPS, "lam": log_uniform(1e-3, 0.1), "pair_beta": log_uniform(0.05, 1.0)},
        language={"beta": shared.KL_WEIGHT},
    )

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
        """Returns GRPO's and "score" (B,), by which pairs are ranked; NaN for a row of no steps."""
        score = batch.need("score").where(batch.mask.any(1), torch.nan)
        return {**super().prepare(batch, progress, iteration), "score": score}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns GRPO's loss + lambda x the pairs' mean loss."""
        config, logp = self.config, output.logp
        if config.pair_reference:
            logp = logp - batch.need("ref_logp")
        pairs = o.ranked_pairs_loss(
            (logp * batch.mask).sum(1),
            signal["score"],
            config.group_size,
            config.pair_beta,
            config.margin,
        )
        grpo = super().loss(output, batch, signal)
        return Loss(torch.add(grpo.value, pairs, alpha=config.lam), grpo.diagnostics)
