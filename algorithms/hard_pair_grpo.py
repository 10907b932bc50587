"""Hard-Pair-GRPO: a target distribution that moves mass from losers to winners, and a fit to it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Presets,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
    uniform,
)

TARGET = {"delta_0": 0.8, "relative": True, "gamma": 1.0, "fit": "forward", "beta": 0.05}


@register_algorithm("hard-pair-grpo")
class HardPairGRPO(Algorithm):
    """Hard-Pair-GRPO (arXiv 2605.06375), made computable on the categorical of a group.

    The paper's: the target pi_tar = pi_old + delta_t (1[preferred] - 1[rejected]) with delta_t =
    delta_0 gamma^t, and the loss KL(pi_theta || pi_tar) + alpha max(KL(pi_theta || pi_old) - beta,
    0). Where responses can be enumerated, `target="tabular"` computes exactly that (t is the
    training iteration).

    Ours, for whole texts and densities, where delta_0 exceeds any response's probability or has
    no unit: `target="group"` represents pi_old by its G samples. Base b is uniform ("snis": p is
    then the self-normalised importance weights of pi_theta) or pi_old restricted to the samples;
    p_i is proportional to b_i exp(log-ratio_i / (tau L_i^kappa)); the target is q = b + delta f,
    f the net wins scaled so that delta is the mass moved; delta is capped so that q_i >= zeta b_i.
    "forward" fits KL(q || p), whose gradient at pi_old is that of a policy gradient with
    advantages G delta f; "reverse" fits KL(p || q), the paper's direction. Also ours: `relative`,
    which divides delta_0 by G, and groups of more than one pair.

    Two losers that are the same response, or several, make the group target an approximation: see
    BRAIn (arXiv 2402.02479) and Target Policy Optimization (arXiv 2604.06159) for the same fit to
    other targets.
    """

    source = "Yu, arXiv 2605.06375 (Hard-Pair-GRPO); group categorical: PairBench"
    departures = (
        "Presets fit KL(q || p) and not the paper's KL(p || q), move delta_0 = .8 / G without "
        "decay (the paper: .02, decay .98), and set the hinge in at .05 (the paper: .01)."
    )
    presets: ClassVar[Presets] = {
        **shared.presets({**TARGET, "kappa": 1.0}, language=TARGET, tabular=TARGET, exact=TARGET),
        "exact@comparisons": {"mode": "disjoint-pairs"},
    }
    spaces = shared.spaces(
        {
            "delta_0": uniform(0.2, 0.95),
            "alpha": log_uniform(0.05, 5.0),
            "beta": log_uniform(0.01, 0.2),
        }
    )

    class Config(GroupConfig):
        """The paper's symbols and values, then those of the group categorical."""

        group_size = 2
        lr = 1e-5
        delta_0: float = Field(0.02, gt=0, lt=1, description="mass to move in iteration 0")
        gamma: float = Field(0.98, gt=0, le=1, description="decay of delta per iteration")
        alpha: float = Field(0.5, ge=0, description="weight of the trust region")
        beta: float = Field(0.01, ge=0, description="KL to pi_old where it sets in, nats per step")
        relative: bool = Field(False, description="divide delta_0 by G")
        zeta: float = Field(0.05, gt=0, lt=1, description="share of b_i a target keeps")
        target: Literal["group", "tabular"] = Field(
            "group", description="distribution that is edited: over the group, or all responses"
        )
        base: Literal["snis", "restricted"] = Field(
            "snis", description="b of the group: uniform, or pi_old restricted to the group"
        )
        tau: float = Field(1.0, gt=0, description="temperature of log-ratios")
        kappa: float = Field(
            0.0, ge=0, le=1, description="exponent of the length that divides them"
        )
        mode: Literal["all-pairs", "best-worst", "disjoint-pairs"] = Field(
            "all-pairs", description="pairs that make the flow f"
        )
        fit: o.Fit = Field("reverse", description="KL(q || p) forward, KL(p || q) reverse")
        fixed_delta: bool = Field(False, description="ablation: delta_t = delta_0 throughout")
        trust_region: bool = Field(True, description="ablation: false drops the hinge")

    config: Config

    @property
    def needs(self) -> Needs:
        tabular = self.config.target == "tabular"
        return Needs("groups", "comparisons", self.config.mode, enumerable=tabular)

    def delta(self, iteration: int) -> float:
        """Returns delta_t, the mass to move if no cap binds."""
        config = self.config
        start = config.delta_0 / config.group_size if config.relative else config.delta_0
        return start if config.fixed_delta else start * config.gamma**iteration

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "target", q: (B,) for a group, (B, K) for all responses (constants).

        For a group also "log_base" (B,), log b, and "scale" (B, T), mask / (tau L^kappa).
        """
        config = self.config
        wins = o.net_wins(batch.need("pairs"), len(batch), batch.mask.dtype)
        flows = o.flow(wins, config.group_size)
        delta = self.delta(iteration)
        if config.target == "tabular":
            return {"target": self.tabular_target(batch, flows, delta)}
        length = batch.mask.sum(1, keepdim=True).clamp_min(1.0)
        scale = batch.mask / (config.tau * length**config.kappa)
        if config.base == "snis":
            base = torch.full_like(flows, 1.0 / config.group_size)
        else:
            base = (batch.old_logp * scale).sum(1).view_as(flows).softmax(1)
        target = base + o.capped_delta(delta, flows, base, config.zeta) * flows
        return {"target": target.view(-1), "log_base": base.log().view(-1), "scale": scale}

    def tabular_target(self, batch: Batch, flows: Tensor, delta: float) -> Tensor:
        """Returns pi_tar over all K responses, the same in each row of a group, shape (B, K)."""
        size = self.config.group_size
        base = batch.need("old_dist")[::size, 0].exp()
        arms = batch.responses.view(-1, size)
        moved = torch.zeros_like(base).scatter_add_(1, arms, flows)
        target = base + o.capped_delta(delta, moved, base, self.config.zeta) * moved
        return target.repeat_interleave(size, 0)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns D(p, q) + alpha max(KL(pi_theta || pi_old) - beta, 0)."""
        config = self.config
        if config.target == "tabular":
            assert output.all_logp is not None
            loss = o.target_divergence(output.all_logp, signal["target"], config.fit)
        else:
            loss = o.fit_group_target(output, batch, signal, config.group_size, config.fit)
        if config.trust_region:
            loss = o.add_hinge(loss, o.kl_to_old(output, batch), config.alpha, config.beta)
        return Loss(loss)
