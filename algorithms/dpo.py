"""DPO and its kin: a loss on pairs whose implicit reward is a log-ratio to a reference policy."""

from __future__ import annotations

from typing import ClassVar, Literal

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
)


@register_algorithm("dpo")
class DPO(Algorithm):
    """Direct preference optimisation (arXiv 2305.18290), offline or on fresh pairs.

    `loss_type="ipo"` is the squared loss of arXiv 2310.12036 on summed log-probabilities;
    "ipo-mean" is TRL's, on their mean over the response. `label_smoothing` makes "sigmoid" the
    conservative DPO. With `data="on-policy"` each group's best response is compared with its worst
    (online DPO); `reference="sampler"` then measures log-ratios to the policy before the
    iteration, which makes each iteration a step of a trust-region kind instead of a pull towards
    the initial policy.
    """

    source = "Rafailov et al., arXiv 2305.18290, equation 7; IPO: arXiv 2310.12036; TRL 1.16"
    departures = (
        "On control tasks and the bandit pairs are fresh, and the reference is the last "
        "policy (the paper: offline pairs, the initial policy)."
    )
    presets: ClassVar[Presets] = {
        "control": {
            **shared.CONTROL,
            "lr": 6e-4,
            "data": "on-policy",
            "reference": "sampler",
            "beta": 1.0,
        },
        "control@critic-free": {**shared.CONTROL_CRITIC_FREE, "lr": 6e-4},
        "language": {"contexts": 64, "minibatches": 2, "lr": 5e-4},
        "language@smollm2-135m": {"contexts": 16, "lr": 3e-5},
        "tabular": {**shared.TABULAR, "data": "on-policy", "reference": "sampler", "beta": 1.0},
        "exact": {**shared.EXACT, "contexts": 64, "group_size": 2, "beta": shared.PRICE},
    }
    spaces = shared.spaces({"beta": log_uniform(0.02, 5.0)})

    class Config(Algorithm.Config):
        """Symbols of the paper; `group_size` counts for on-policy data only."""

        lr = 1e-6
        group_size: int = Field(2, ge=2, description="G, responses a fresh pair is chosen from")
        beta: float = Field(0.1, gt=0, description="inverse temperature of the implicit reward")
        loss_type: Literal["sigmoid", "ipo", "ipo-mean"] = Field(
            "sigmoid", description="loss of the margin"
        )
        label_smoothing: float = Field(
            0.0, ge=0, lt=0.5, description="assumed share of flipped labels (sigmoid only)"
        )
        data: Literal["offline", "on-policy"] = Field(
            "offline", description="where pairs come from"
        )
        reference: Literal["sft", "sampler"] = Field(
            "sft", description="reference policy: the initial one, or the one that drew the batch"
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
            reference=self.config.reference == "sft",
        )

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "reference", (B, T) log-probabilities under the reference policy."""
        sampler = self.config.reference == "sampler"
        return {"reference": batch.need("old_logp" if sampler else "ref_logp")}

    def pair_losses(self, margin: Tensor) -> Tensor:
        """Returns the loss of each pair, (P,), from its margin of log-ratios, nats."""
        config = self.config
        form: Literal["sigmoid", "ipo"] = "sigmoid" if config.loss_type == "sigmoid" else "ipo"
        return o.preference_loss(margin, config.beta, form, config.label_smoothing)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean over pairs of the margin's loss; 0 if every comparison was a tie."""
        config = self.config
        pairs = batch.need("pairs")
        log_ratio = ((output.logp - signal["reference"]) * batch.mask).sum(1)
        if config.loss_type == "ipo-mean":
            log_ratio = log_ratio / batch.mask.sum(1).clamp_min(1.0)
        preferred, rejected = log_ratio[pairs].unbind(1)
        losses = self.pair_losses(preferred - rejected)
        return Loss(losses.sum() / max(len(pairs), 1))
