"""GRPO: group-normalised scores as advantages in a clipped surrogate, without a critic."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("grpo")
class GRPO(Algorithm):
    """Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300, equations 3 and 4).

    Its variants are settings: Dr.GRPO (arXiv 2503.20783) is `std="none"`, `aggregation="dr_grpo"`;
    DAPO's clip-higher (arXiv 2503.14476) `clip_high=0.28`, `aggregation="dapo"`; GSPO (arXiv
    2507.18071) `ratio_level="sequence_mean"` with its own clip range. Names and denominators of
    aggregations are those of TRL 1.16. The trust region is Hard-Pair-GRPO's hinge on KL(pi_theta
    || pi_old) (arXiv 2605.06375), off by default: it is here so that a board can show how much of
    that method it carries.
    """

    source = "Shao et al., arXiv 2402.03300, equations 3 and 4; TRL 1.16 GRPOTrainer"
    departures = (
        "Where all responses can be enumerated, advantages are not divided by a standard deviation "
        "and the KL weight is .5 (the paper: divided, .04): one price of KL for all methods."
    )
    presets = shared.presets(
        control={"beta": 0.0, "std": "population", "eps": 1e-8},
        tabular={"beta": 0.0, "std": "population", "eps": 1e-8},
        exact={"beta": shared.PRICE, "std": "none"},
    )
    spaces = shared.spaces(shared.CLIPS, language={"beta": shared.KL_WEIGHT})

    class Config(GroupConfig):
        """Symbols of the paper."""

        lr = 1e-6
        clip_low: float = Field(0.2, gt=0, lt=1, description="epsilon below 1")
        clip_high: float = Field(0.2, gt=0, lt=1, description="epsilon above 1")
        delta: float | None = Field(
            None, gt=1, description="cap of the ratio where the clip has no effect (two-sided)"
        )
        ratio_level: o.RatioLevel = Field(
            "token", description="ratio per step, exp of the mean log-ratio, or of whole responses"
        )
        aggregation: o.Aggregation = Field("grpo", description="loss type, by TRL's name")
        max_length: int | None = Field(
            None, ge=1, description="denominator of dr_grpo; the batch's steps if not given"
        )
        cispo_cap: float = Field(5.0, gt=0, description="largest ratio under cispo")
        sapo_tau_positive: float = Field(1.0, gt=0, description="sapo's tau where A > 0")
        sapo_tau_negative: float = Field(1.05, gt=0, description="sapo's tau where A <= 0")
        std: o.Std = Field("sample", description="standard deviation that scales advantages")
        eps: float = Field(1e-4, ge=0, description="added to it")
        beta: float = Field(0.04, ge=0, description="weight of the KL to the reference")
        penalty: Literal["k3", "k3-bias-corrected", "direct"] = Field(
            "k3",
            description="estimate of it: the paper's; times the ratio (TRL's default); or exact "
            "where the policy can compute it, and else times the ratio",
        )
        trust_region: bool = Field(False, description="add alpha max(KL to old - threshold, 0)")
        alpha: float = Field(0.5, ge=0, description="weight of the trust region")
        threshold: float = Field(0.05, ge=0, description="KL per step where it sets in, nats")

        @model_validator(mode="after")
        def _cap_beyond_the_clip(self) -> Self:
            if self.delta is not None and self.delta < 1.0 + self.clip_high:
                raise ValueError(f"delta {self.delta} must be at least 1 + clip_high")
            return self

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.beta > 0)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the group's mean, in standard deviations."""
        return o.normalise_groups(
            batch.need("score"), self.config.group_size, self.config.std, self.config.eps
        )

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" (B, 1) and "weight" (B, T), the steps' shares in the loss."""
        config = self.config
        weight = o.step_weights(batch.mask, config.aggregation, config.max_length or batch.steps)
        return {"advantage": self.advantages(batch).unsqueeze(1), "weight": weight}

    def surrogate(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the aggregated loss of ratios and advantages, and diagnostics."""
        config, advantage, weight = self.config, signal["advantage"], signal["weight"]
        if config.aggregation == "cispo":
            loss = o.cispo_surrogate(log_ratio.exp(), output.logp, advantage, config.cispo_cap)
        elif config.aggregation == "sapo":
            taus = config.sapo_tau_positive, config.sapo_tau_negative
            loss = o.soft_gate_surrogate(log_ratio.exp(), advantage, *taus)
        else:
            if log_ratio.shape != weight.shape:
                weight = weight.sum(1, keepdim=True)
            total, outside = o.clipped_surrogate(
                log_ratio,
                advantage,
                weight,
                config.clip_low,
                config.clip_high,
                config.delta,
                1.0 if config.aggregation == "bnpo" else 1.0 / len(weight),
            )
            if config.aggregation == "bnpo":
                total = total / weight.sum().clamp_min(1.0)
            return total, {"clip_fraction": outside}
        return o.aggregate(loss, weight, config.aggregation), {}

    def regulariser(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> Tensor:
        """Returns the scalar that beta multiplies: KL to the reference, weighted as the loss is."""
        exact = output.kl_ref if self.config.penalty == "direct" else None
        if exact is None:
            factor = None if self.config.penalty == "k3" else log_ratio.exp()
            exact = o.k3(output.logp, batch.need("ref_logp"), factor)
        return o.aggregate(exact, signal["weight"], self.config.aggregation)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns surrogate + beta KL (+ trust region)."""
        config = self.config
        log_ratio = o.log_ratio(output.logp, batch.old_logp, batch.mask, config.ratio_level)
        loss, diagnostics = self.surrogate(output, batch, signal, log_ratio)
        if config.beta:
            penalty = self.regulariser(output, batch, signal, log_ratio)
            loss = torch.add(loss, penalty, alpha=config.beta)
        if config.trust_region:
            kl = o.kl_to_old(output, batch)
            loss = o.add_hinge(loss, kl, config.alpha, config.threshold)
        return Loss(loss, diagnostics)
