"""PODS: many responses to a context are sampled and scored, the most varied few trained on."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from torch import Tensor

from pairbench import Batch, Field, integers, objectives as o, pick, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("pods")
class PODS(GRPO):
    """Policy optimisation with down-sampling (arXiv 2504.13818): GRPO on m of n responses.

    The source's: of n responses to a context, GRPO is given the m whose scores have the largest
    variance. Ours: that the best m are the k lowest and m - k highest for some k (a derivation,
    held against all subsets in the tests); advantages are normalised among the m; of equally good
    choices the first is taken; control tasks ask for n = 8 of half as many contexts as GRPO, so
    that an iteration costs the same steps. All n are sampled, scored and counted as steps and
    labels: what is saved is the update's time, a share of m / n.
    """

    source = "PODS, arXiv 2504.13818 (max-variance down-sampling)"
    departures = (
        "Language presets keep GRPO's KL weight of .04 (the authors: 0); where all responses can "
        "be enumerated it is .5, the price for all methods, and no std divides advantages."
    )
    presets = shared.presets(
        control={
            "contexts": 16,
            "group_size": 8,
            "keep": 4,
            "beta": 0.0,
            "std": "population",
            "eps": 1e-8,
        },
        tabular={"beta": 0.0, "std": "population", "eps": 1e-8},
        exact={"beta": shared.PRICE, "std": "none"},
    )
    spaces = shared.spaces(
        {**shared.CLIPS, "keep": integers(2, 8)}, language={"beta": shared.KL_WEIGHT}
    )

    class Config(GRPO.Config):
        """GRPO's settings; `group_size` is n."""

        keep: int = Field(4, ge=2, description="m, responses of a group that are trained on")

        @model_validator(mode="after")
        def _no_more_than_there_are(self) -> Self:
            if self.keep > self.group_size:
                raise ValueError(f"keep {self.keep} must be at most group_size {self.group_size}")
            return self

    config: Config

    def select(self, batch: Batch) -> Batch:
        """Returns groups of `keep` rows."""
        config = self.config
        rows = o.most_varied(batch.need("score"), config.group_size, config.keep)
        return pick(batch, rows, config.keep)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the mean of what was kept of its group."""
        config = self.config
        return o.normalise_groups(batch.need("score"), config.keep, config.std, config.eps)
