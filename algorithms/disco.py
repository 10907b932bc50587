"""DISCO: scores weigh more where the domain is rare and the context hard."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pairbench import Batch, Field, PairBenchError, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO

FLOOR = 1e-5


@register_algorithm("disco")
class DISCO(GRPO):
    """Domain-informed self-consistency policy optimisation (arXiv 2505.15074).

    The source's, after its authors' code: a score r becomes w_dom w_diff r, where w_dom =
    log(1 + 1 / p_d) for the share p_d of a context's domain in the training data and w_diff =
    1 / (SC + 1e-5) for the group's mean score SC, of answers that are right (1) or wrong (0);
    advantages are not divided by a standard deviation. Ours: the weights multiply the advantage,
    which is the same without that division; `difficulty="logistic"`, since the scores of these
    tasks have no 0 and 1, makes SC the group's mean of sigmoid((r - mean) / std) over the batch; a
    task without domains is one, p_d = 1; the code's variant for negative rewards is left out. Not
    to be confused with DisCO (arXiv 2505.12366).
    """

    source = "DISCO, arXiv 2505.15074"
    departures = (
        "Scores are made such by a logistic map before a group's mean is called its "
        "difficulty, for they have no 0 and 1 here."
    )
    presets = shared.presets(
        control={"beta": 0.0, "difficulty": "logistic"},
        language={"difficulty": "logistic"},
        tabular={"beta": 0.0, "difficulty": "logistic"},
        exact={"beta": shared.PRICE, "difficulty": "logistic"},
    )

    class Config(GRPO.Config):
        """GRPO's settings and the two weights."""

        std = "none"
        domain: Literal["log", "log-squared", "inverse", "none"] = Field(
            "log", description="w_dom: log(1 + 1 / p_d), its square, 1 / p_d, or 1"
        )
        difficulty: Literal["mean", "logistic", "none"] = Field(
            "mean",
            description="SC: the group's mean score, in [0, 1]; of scores made such; or w_diff 1",
        )

    config: Config

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): w_dom w_diff (score - group mean)."""
        return super().advantages(batch) * self.domain_weight(batch) * self.difficulty_weight(batch)

    def domain_weight(self, batch: Batch) -> Tensor:
        """Returns w_dom of each row's domain, (B,)."""
        share = batch.domain_share
        if share is None:
            share = torch.ones_like(batch.need("score"))
        if self.config.domain == "none":
            return torch.ones_like(share)
        if self.config.domain == "inverse":
            return 1.0 / share
        rarity = torch.log1p(1.0 / share)
        return rarity.square() if self.config.domain == "log-squared" else rarity

    def difficulty_weight(self, batch: Batch) -> Tensor:
        """Returns w_diff of each row's group, (B,).

        Raises:
            PairBenchError: difficulty is "mean" and a score lies outside of [0, 1].
        """
        config, score = self.config, batch.need("score")
        if config.difficulty == "none":
            return torch.ones_like(score)
        if config.difficulty == "logistic":
            score = ((score - score.mean()) / (score.std() + FLOOR)).sigmoid()
        elif bool((score < 0).any()) or bool((score > 1).any()):
            raise PairBenchError(
                f"{self.name}.difficulty 'mean' divides by a group's mean score, and this task's "
                "scores are not all in [0, 1]: set it to 'logistic' or 'none'"
            )
        mean = score.view(-1, config.group_size).mean(1)
        return (1.0 / (mean + FLOOR)).repeat_interleave(config.group_size)
