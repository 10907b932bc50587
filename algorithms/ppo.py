"""PPO: clipped surrogate, a critic and generalised advantage estimation."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
    uniform,
)


@register_algorithm("ppo")
class PPO(Algorithm):
    """Proximal policy optimisation (arXiv 1707.06347), as Stable-Baselines3 2.9 computes it.

    The value loss has no factor 1/2. For language, `kl_coef` subtracts a per-token KL to the
    reference from the reward (arXiv 2203.02155), `value_clip_form="max"` and
    `advantage_norm="batch"` are the recipe of TRL's PPOTrainer.
    """

    source = "Schulman et al., arXiv 1707.06347; defaults of Stable-Baselines3 2.9"
    presets: ClassVar[Presets] = {
        "control": {
            "contexts": 8,
            "segment": 128,
            "epochs": 10,
            "minibatches": 4,
            "lr": 1e-3,
            "critic_lr": 1e-3,
            "log_std_floor": -20.0,
        },
        "language": {
            "contexts": 64,
            "minibatches": 2,
            "lr": 2e-4,
            "critic_lr": 1e-3,
            "gamma": 1.0,
            "kl_coef": 0.04,
            "value_clip": 0.2,
            "value_clip_form": "max",
            "advantage_norm": "batch",
        },
        "language@smollm2-135m": {"contexts": 32, "lr": 1e-5},
        "exact": {
            **shared.EXACT,
            "contexts": 128,
            "group_size": 1,
            "gamma": 1.0,
            "kl_coef": shared.PRICE,
            "value_clip": 0.2,
            "value_clip_form": "max",
            "advantage_norm": "batch",
        },
        "tabular": {
            "contexts": 256,
            "epochs": 4,
            "minibatches": 4,
            "lr": 0.03,
            "critic_lr": 0.03,
        },
    }
    spaces = shared.spaces(
        {"clip": uniform(0.1, 0.4), "critic_lr": log_uniform(1e-4, 1e-2)},
        control={"lam": uniform(0.9, 0.99)},
        language={"kl_coef": shared.KL_WEIGHT},
        tabular={"critic_lr": log_uniform(3e-3, 0.3)},
    )

    class Config(Algorithm.Config):
        """Symbols of the paper; `segment` is T, `contexts` the number of parallel actors N."""

        group_size: int = Field(1, ge=1, le=1, description="PPO compares nothing: always 1")
        clip: float = Field(0.2, gt=0, lt=1, description="epsilon, the clip range")
        gamma: float = Field(0.99, ge=0, le=1, description="discount")
        lam: float = Field(0.95, ge=0, le=1, description="lambda of GAE")
        vf_coef: float = Field(0.5, ge=0, description="c_1, weight of the value loss")
        ent_coef: float = Field(0.0, ge=0, description="c_2, weight of the entropy bonus")
        value_clip: float | None = Field(None, gt=0, description="range of the value's change")
        value_clip_form: Literal["replace", "max"] = Field(
            "replace",
            description="clipped value in place of the value, or the larger of the two losses",
        )
        advantage_norm: Literal["minibatch", "batch", "none"] = Field(
            "minibatch", description="what advantages are whitened over (sample std, eps 1e-8)"
        )
        kl_coef: float = Field(0.0, ge=0, description="weight of the KL subtracted from rewards")
        kl_estimator: Literal["k1", "k3"] = Field("k1", description="its estimate per step")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("steps", "rewards", critic=True, reference=self.config.kl_coef > 0)

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" and "return", (B, T) each."""
        config = self.config
        reward, value = batch.need("step_reward"), batch.need("value")
        next_value, boundary = batch.need("next_value"), batch.need("boundary")
        if config.kl_coef:
            estimate = o.k1 if config.kl_estimator == "k1" else o.k3
            penalty = estimate(batch.old_logp, batch.need("ref_logp")) * batch.mask
            reward = reward - config.kl_coef * penalty
        advantage = o.gae(reward, value, next_value, boundary, config.gamma, config.lam)
        target = advantage + value
        if config.advantage_norm == "batch":
            advantage = o.whiten(advantage, batch.mask)
        return {"advantage": advantage, "return": target}

    def value_error(self, value: Tensor, old: Tensor, target: Tensor) -> Tensor:
        """Returns the squared error per step, the value's change clipped if configured."""
        clip, error = self.config.value_clip, (value - target).square()
        if clip is None:
            return error
        clipped = (old + (value - old).clamp(-clip, clip) - target).square()
        replace = self.config.value_clip_form == "replace"
        return clipped if replace else torch.maximum(error, clipped)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns surrogate + vf_coef value loss - ent_coef entropy (paper's equation 9)."""
        config, mask = self.config, batch.mask
        advantage = signal["advantage"]
        if config.advantage_norm == "minibatch":
            advantage = o.whiten(advantage, mask)
        plain = o.all_real(mask)  # then means need no weights
        weights, scale = (None, 1.0 / len(mask))
        if not plain:
            weights, scale = mask / mask.sum().clamp_min(1.0), 1.0
        loss, outside = o.clipped_surrogate(
            output.logp - batch.old_logp, advantage, weights, config.clip, config.clip, scale=scale
        )
        if config.vf_coef:
            value, old, target = output.value, batch.need("value"), signal["return"]
            assert value is not None
            if plain and config.value_clip is None:
                error = F.mse_loss(value, target)
            else:
                error = o.masked_mean(self.value_error(value, old, target), mask)
            loss = torch.add(loss, error, alpha=config.vf_coef)
        if config.ent_coef:
            entropy = output.entropy
            # where the policy has no entropy, -log pi estimates it, as in Stable-Baselines3
            bonus = -output.logp if entropy is None else entropy
            loss = loss - config.ent_coef * o.masked_mean(bonus, mask)
        return Loss(loss, {"clip_fraction": outside})
