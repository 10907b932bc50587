"""GRPO: group-normalised scores as advantages in a clipped surrogate, without a critic."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pairbench import objectives as o
from pairbench.algorithm import Algorithm, Loss, Needs, Presets, Settings
from pairbench.batch import Batch, Signal
from pairbench.policy import PolicyOutput
from pairbench.registry import register_algorithm
from pairbench.space import Space, Spaces, log_uniform, uniform

CONTROL = {
    "contexts": 32,
    "group_size": 4,
    "segment": 8,
    "epochs": 10,
    "minibatches": 4,
    "lr": 1e-3,
}
"""Sizes of the group methods on control tasks: 1,024 steps and 40 gradient steps an iteration."""

CONTROL_CRITIC_FREE = {
    "contexts": 4,
    "group_size": 8,
    "segment": 16,
    "epochs": 5,
    "minibatches": 4,
    "lr": 1e-3,
}
"""The same where a segment's return alone is the score: longer segments, larger groups."""

LANGUAGE = {"contexts": 8, "group_size": 8, "minibatches": 2, "lr": 2e-4}
"""The same on language tasks: 64 completions and two gradient steps an iteration."""

LANGUAGE_SMOLLM2 = {"contexts": 4, "lr": 3e-5}
"""What SmolLM2-135M wants otherwise."""

TABULAR = {"contexts": 32, "group_size": 8, "epochs": 4, "minibatches": 4, "lr": 0.03}

LEARNING_RATES: Spaces = {
    "control": {"lr": log_uniform(1e-4, 3e-3)},
    "language": {"lr": log_uniform(3e-5, 2e-3)},
    "language@smollm2-135m": {"lr": log_uniform(1e-6, 1e-4)},
    "tabular": {"lr": log_uniform(3e-3, 0.3)},
}
"""What is searched for every method alike. Sizes are not: they are what makes budgets compare."""

CLIPS: Space = {"clip_low": uniform(0.1, 0.4), "clip_high": uniform(0.1, 0.4)}

KL_WEIGHT = log_uniform(1e-3, 0.3)


def group_presets(
    control: Settings | None = None,
    critic_free: Settings | None = None,
    language: Settings | None = None,
    tabular: Settings | None = None,
) -> Presets:
    """Returns the presets of a group method: these sizes, and its own settings by kind of task."""
    return {
        "control": {**CONTROL, **(control or {})},
        "control@critic-free": {**CONTROL_CRITIC_FREE, **(critic_free or {})},
        "language": {**LANGUAGE, **(language or {})},
        "language@smollm2-135m": LANGUAGE_SMOLLM2,
        "tabular": {**TABULAR, **(tabular or {})},
    }


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
    presets: ClassVar[Presets] = group_presets(
        control={"beta": 0.0, "std": "population", "eps": 1e-8},
        tabular={"beta": 0.0, "std": "population", "eps": 1e-8},
    )
    spaces: ClassVar[Spaces] = {
        **LEARNING_RATES,
        "any": CLIPS,
        "language": {**LEARNING_RATES["language"], "beta": KL_WEIGHT},
    }

    class Config(Algorithm.Config):
        """Symbols of the paper."""

        group_size: int = Field(8, ge=2, description="G, responses per context, at least 2")
        lr: float = Field(1e-6, gt=0, le=10, description="Adam learning rate of the policy")
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

    def scores(self, batch: Batch) -> Tensor:
        """Returns the oracle's scores (B,).

        Raises:
            PairBenchError: the batch has none.
        """
        return o.scores(batch, self.name)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the score's distance from the group's mean, in standard deviations."""
        return o.normalise_groups(
            self.scores(batch), self.config.group_size, self.config.std, self.config.eps
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
                total = total / weight.sum()
            return total, {"clip_fraction": outside}
        return o.aggregate(loss, weight, config.aggregation), {}

    def regulariser(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> Tensor:
        """Returns the scalar that beta multiplies: KL to the reference, weighted as the loss is."""
        exact = output.kl_ref if self.config.penalty == "direct" else None
        if exact is None:
            assert batch.ref_logp is not None
            factor = None if self.config.penalty == "k3" else log_ratio.exp()
            exact = o.k3(output.logp, batch.ref_logp, factor)
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
