"""DAPO: GRPO with a wider upper clip, no wasted groups, and a price of overlong responses."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from pairbench import Batch, Field, objectives as o, pick, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("dapo")
class DAPO(GRPO):
    """Decoupled clip and dynamic sampling policy optimisation (arXiv 2503.14476, equation 8).

    The paper's: clip range [.8, 1.28], a mean over all steps of the batch, no KL, groups without a
    difference in score left out, and a score that falls by up to 1 over the last `cache` steps
    before `max_length` (equation 13). Ours: groups left out are not sampled again, which would
    cost this method other numbers of responses than the rest; where all are tied, all stay; and no
    overlong penalty unless `cache` is given, for tasks have lengths of their own.
    """

    source = "Yu et al., arXiv 2503.14476, equations 8 and 13; TRL 1.16 GRPOTrainer, dapo"
    departures = "Groups left out are not sampled again, and overlong responses cost nothing."
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at DAPO's values."""

        clip_high = 0.28
        aggregation = "dapo"
        beta = 0.0
        dynamic: bool = Field(True, description="leave out groups whose scores are all equal")
        cache: int = Field(0, ge=0, description="last steps, over which the score falls by 1")

        @model_validator(mode="after")
        def _of_a_known_length(self) -> Self:
            if self.cache > (self.max_length or 0):
                raise ValueError(f"cache {self.cache} needs a max_length of at least that")
            return self

    config: Config

    def select(self, batch: Batch) -> Batch:
        """Returns the groups that have something to say; all of them if none has."""
        groups = batch.need("score").view(-1, self.config.group_size)
        kept = groups.amax(1) > groups.amin(1)
        if not self.config.dynamic or bool(kept.all()) or not bool(kept.any()):
            return batch
        rows = torch.arange(len(batch)).view_as(groups)[kept.cpu()]
        return pick(batch, rows.reshape(-1), self.config.group_size)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): GRPO's, of scores less the price of their length."""
        config, score = self.config, batch.need("score")
        if config.cache:
            over = batch.mask.sum(1) - (config.max_length or 0) + config.cache
            score = score - (over / config.cache).clamp(0.0, 1.0)
        return o.normalise_groups(score, config.group_size, config.std, config.eps)
