"""RLRR: GRPO on ranks within the group instead of scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pairbench import Batch, Field, PairBenchError, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("rlrr")
class RLRR(GRPO):
    """Reinforcement learning with relative rewards (arXiv 2601.23058), after code that cites it.

    With dense ranks rho in a group (1 the best, rho_max the worst, equals share one), the pure
    form "prr" has s = (rho_max - rho) / (rho_max - 1); the hybrid form "hrr", for answers that are
    right or wrong, s = 1[correct] + tau tanh(rho_max / rho - 1), and ranks by correctness, then, of
    correct ones, by length in whole multiples of `bucket`, then by score. A = s - mean s; under
    "hrr" a correct response has at least -xi and an incorrect one at most xi.

    Ours, for scores of open-ended tasks: "prr" is the default and ranks by the score, in place of
    the paper's listwise ranking model; under "hrr" a response is correct where its score reaches
    `threshold`; no KL penalty. A group that is tied throughout has advantage 0.
    """

    source = "Niu et al., arXiv 2601.23058, equations 1 and 3 to 6 as third-party code cites them"
    departures = "Ranks are those of the score, in place of the paper's listwise ranking model."
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """The paper's symbols, then GRPO's settings; `std` and `eps` have no effect here."""

        beta = 0.0
        form: Literal["prr", "hrr"] = Field("prr", description="ranks alone, or with correctness")
        tau: float = Field(0.1, ge=0, description="weight of ranks (hrr)")
        xi: float = Field(1e-3, ge=0, description="bound of advantages of the wrong sign (hrr)")
        bucket: int = Field(
            2048, ge=1, description="lambda, steps that count as one length in ranks (hrr)"
        )
        threshold: float = Field(0.0, description="least score that is correct (hrr)")

    config: Config

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the rank's reward less its mean over the group."""
        config = self.config
        score = batch.need("score").view(-1, config.group_size)
        if config.form == "prr":
            rank = dense_rank(score.unsqueeze(0)).to(score)
            worst = rank.amax(1, keepdim=True)
            reward = (worst - rank) / (worst - 1).clamp_min(1)
            return (reward - reward.mean(1, keepdim=True)).view(-1)
        correct = score >= config.threshold
        length = (batch.mask.sum(1).view_as(score) / config.bucket).floor()
        shorter = torch.where(correct, -length, 0.0)
        rank = dense_rank(torch.stack([correct.to(score), shorter.to(score), score])).to(score)
        worst = rank.amax(1, keepdim=True)
        reward = correct + config.tau * torch.tanh(worst / rank - 1.0)
        advantage = reward - reward.mean(1, keepdim=True)
        bounded = torch.where(
            correct, advantage.clamp_min(-config.xi), advantage.clamp_max(config.xi)
        )
        return bounded.view(-1)


def dense_rank(keys: Tensor) -> Tensor:
    """Returns (N, G) int64 ranks from 1, the best; equals share a rank and none is left out.

    Args:
        keys: (K, N, G), of each of N groups of G: compared by the first, ties by the next, and so
            on; larger is better.

    Raises:
        PairBenchError: a key is NaN, which has no rank.
    """
    if bool(keys.isnan().any()):
        raise PairBenchError("NaN has no rank: score every response with a number")
    mine, other = keys.unsqueeze(-1), keys.unsqueeze(-2)
    better = torch.zeros_like(mine[0] == other[0])
    equal = torch.ones_like(better)
    for own, theirs in zip(mine, other):
        better |= equal & (theirs > own)
        equal &= theirs == own
    size = keys.shape[-1]
    first = ~(equal & torch.ones(size, size).tril(-1).bool()).any(-1)  # none before it equals it
    return 1 + (better & first.unsqueeze(-2)).sum(-1)
