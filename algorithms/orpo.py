"""ORPO: likelihood of the preferred response and the odds ratio to the rejected one."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F

from pairbench import (
    Algorithm,
    Batch,
    Field,
    Loss,
    Needs,
    PolicyOutput,
    Presets,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("orpo")
class ORPO(Algorithm):
    """Odds ratio preference optimisation (arXiv 2403.07691, equation 6), without a reference.

    Log-probabilities are means over the response, as in TRL 1.16. The likelihood term is the mean
    over the preferred responses' own tokens; TRL's also counts the prompt's. The odds p / (1 - p)
    have no meaning for a density, so tasks with continuous actions skip this method.
    """

    source = "Hong et al., arXiv 2403.07691, equation 6; TRL 1.16"
    departures = (
        "The language preset weighs the odds ratio by lambda 1 (the paper: .1); means over "
        "tokens leave the prompt's out of the likelihood."
    )
    presets: ClassVar[Presets] = {
        "language": {"contexts": 64, "minibatches": 2, "lr": 7e-4, "lam": 1.0},
        "language@smollm2-135m": {"contexts": 8, "lr": 1e-5},
        "tabular": {**shared.TABULAR, "data": "on-policy"},
        "exact": {**shared.EXACT, "contexts": 64, "group_size": 2, "lam": 1.0},
    }
    spaces = shared.spaces({"lam": log_uniform(0.03, 3.0)})

    class Config(Algorithm.Config):
        """Symbols of the paper; `group_size` counts for on-policy data only."""

        lr = 8e-6
        group_size: int = Field(2, ge=2, description="G, responses a fresh pair is chosen from")
        lam: float = Field(0.1, ge=0, description="lambda, weight of the odds-ratio term")
        data: Literal["offline", "on-policy"] = Field(
            "offline", description="where pairs come from"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        offline = self.config.data == "offline"
        return Needs(
            "pairs",
            "comparisons",
            "none" if offline else "best-worst",
            offline=offline,
            probabilities=True,
        )

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns nothing: the loss needs the batch alone."""
        return {}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the NLL of preferred responses - lambda mean log sigmoid(log odds ratio)."""
        pairs = batch.need("pairs")
        length = batch.mask.sum(1).clamp_min(1.0)
        total = (output.logp * batch.mask).sum(1)
        preferred, rejected = o.log_odds(total / length)[pairs].unbind(1)
        chosen = pairs[:, 0]
        nll = -total[chosen].sum() / length[chosen].sum().clamp_min(1.0)
        ratio = -F.logsigmoid(preferred - rejected).sum() / max(len(pairs), 1)
        return Loss(nll + self.config.lam * ratio)
