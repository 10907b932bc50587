"""What methods have in common whose loss is a function of a pair's two responses.

Such a method's file says `losses`, its equation. Where pairs come from and what log-ratios are
measured to are settings that all of them share with DPO.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from pairbench import shared
from pairbench.algorithm import Algorithm, Loss, Needs, Presets, Settings
from pairbench.batch import Batch, Signal
from pairbench.objectives import normalise_groups
from pairbench.policy import PolicyOutput
from pairbench.space import Range, Space, Spaces, log_uniform


@dataclass(frozen=True)
class Pairs:
    """P preferred and P rejected responses as a loss sees them: tensors of shape (P,).

    Attributes:
        chosen: log-ratio of each preferred response to the reference, nats; its log-probability
            where the method has no reference.
        rejected: the same of each rejected response.
        chosen_logp: log-probability of each preferred response, nats.
        rejected_logp: the same of each rejected response.
        chosen_length: real steps of each preferred response.
        rejected_length: the same of each rejected response.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_logp: Tensor
    rejected_logp: Tensor
    chosen_length: Tensor
    rejected_length: Tensor

    @property
    def margin(self) -> Tensor:
        """(P,) the preferred response's log-ratio less the rejected one's, nats."""
        return self.chosen - self.rejected

    @property
    def mean_margin(self) -> Tensor:
        """(P,) the same of log-ratios divided by the steps of their responses."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    def nll(self) -> Tensor:
        """Returns the mean negative log-probability of a step of a preferred response, nats."""
        return -self.chosen_logp.sum() / self.chosen_length.sum().clamp_min(1.0)


class PairData(Algorithm):
    """What learns from preference pairs, offline or of each group's best response and its worst."""

    class Config(Algorithm.Config):
        """DPO's settings; `group_size` counts for on-policy data only."""

        lr = 1e-6
        group_size: int = Field(2, ge=2, description="G, responses a fresh pair is chosen from")
        beta: float = Field(0.1, gt=0, description="inverse temperature of the implicit reward")
        data: Literal["offline", "on-policy", "scores"] = Field(
            "offline", description="where labels come from: pairs, fresh pairs, or scores of groups"
        )
        reference: Literal["sft", "sampler", "none"] = Field(
            "sft",
            description="what log-ratios are to: the initial policy, or the one that drew the "
            "batch; none: log-probabilities in their place",
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
        """Returns "reference", (B, T) log-probabilities that log-ratios are to, if any."""
        if self.config.reference == "none":
            return {}
        sampler = self.config.reference == "sampler"
        return {"reference": batch.need("old_logp" if sampler else "ref_logp")}


class PairMethod(PairData):
    """A loss of preference pairs: an equation of their log-ratios."""

    class Config(PairData.Config):
        """DPO's settings."""

        data: Literal["offline", "on-policy"] = Field(
            "offline", description="where pairs come from"
        )

    config: Config

    @abstractmethod
    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""

    def pairs(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Pairs:
        """Returns the pairs of a minibatch as `losses` sees them."""
        numbers, length = batch.need("pairs"), batch.mask.sum(1)
        logp = (output.logp * batch.mask).sum(1)
        ratio = logp
        if "reference" in signal:
            ratio = ((output.logp - signal["reference"]) * batch.mask).sum(1)
        columns = (column for each in (ratio, logp, length) for column in each[numbers].unbind(1))
        return Pairs(*columns)

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean of the losses; 0 if every comparison was a tie."""
        losses = self.losses(self.pairs(output, batch, signal))
        return Loss(losses.sum() / max(len(losses), 1))


class FreePairMethod(PairMethod):
    """A loss of preference pairs without a reference: log-probabilities in place of ratios."""

    class Config(PairMethod.Config):
        """Settings of pairs; there is no reference."""

        reference: Literal["none"] = Field("none", description="it has none")

    config: Config


def smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """Returns -(1 - s) log sigmoid(z) - s log sigmoid(-z): each label is wrong by chance s."""
    loss = -F.logsigmoid(logits)
    if smoothing:
        loss = (1.0 - smoothing) * loss - smoothing * F.logsigmoid(-logits)
    return loss


FRESH = {"data": "on-policy", "reference": "sampler", "beta": 1.0}
"""Where nobody labelled pairs beforehand: fresh ones, and a step from the last policy."""

FRESH_PAIRS = (
    "On control tasks and the bandit pairs are fresh, and the reference is the last policy (the "
    "paper: offline pairs, the initial policy)."
)
"""What `presets` change of a paper's method."""

OFFLINE = {"contexts": 64, "minibatches": 2, "lr": 5e-4}
"""Sizes of the methods of offline pairs on language tasks: 64 pairs, two gradient steps."""

OFFLINE_SMOLLM2 = {"contexts": 16, "lr": 3e-5}
"""What SmolLM2-135M wants otherwise."""


def presets(fresh: Settings | None = None, exact: Settings | None = None) -> Presets:
    """Returns the presets of a method with a reference: DPO's, and its own settings.

    Args:
        fresh: settings where pairs are fresh, on control tasks and the bandit.
        exact: settings where all responses can be enumerated.
    """
    again = {**FRESH, **(fresh or {})}
    sizes = {**shared.EXACT, "contexts": 64, "group_size": 2, "beta": shared.PRICE}
    return {
        "control": {**shared.CONTROL, "lr": 6e-4, **again},
        "control@critic-free": {**shared.CONTROL_CRITIC_FREE, "lr": 6e-4},
        "language": OFFLINE,
        "language@smollm2-135m": OFFLINE_SMOLLM2,
        "tabular": {**shared.TABULAR, **again},
        "exact": {**sizes, **(exact or {})},
    }


def free_presets() -> Presets:
    """Returns the presets of a method without a reference.

    Where all responses can be enumerated pairs are fresh, for nothing else there holds the policy
    to the reference: comparisons take the price of KL into account.
    """
    return {
        "language": OFFLINE,
        "language@smollm2-135m": OFFLINE_SMOLLM2,
        "tabular": {**shared.TABULAR, "data": "on-policy"},
        "exact": {**shared.EXACT, "data": "on-policy"},
    }


BETAS: Space = {"beta": log_uniform(0.02, 5.0)}
"""Inverse temperatures, as DPO searches them."""

SMOOTHING = Range(0.0, 0.4)
"""Shares of labels that are taken to be wrong."""


def spaces(own: Space | None = None) -> Spaces:
    """Returns the search spaces of a method of pairs: learning rates, beta and its `own`."""
    return shared.spaces({**BETAS, **(own or {})})


class LabelMethod(PairData):
    """A loss of responses that are each desirable or undesirable: labels need not come in pairs.

    From pairs, the preferred response is desirable and the rejected one is not. From scores, a
    response is desirable above the threshold and undesirable from there on down; without a
    threshold that is the group's mean, and a response at the mean itself is neither.
    """

    class Config(PairData.Config):
        """Settings of pairs, and what is desirable by its score."""

        threshold: float | None = Field(
            None, description="score above which a response is desirable; absent: its group's mean"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        if self.config.data != "scores":
            return super().needs
        return Needs("groups", "scores", reference=self.config.reference == "sft")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "reference", and from scores "label" (B,): 1 desirable, -1 undesirable, 0."""
        signal = dict(super().prepare(batch, progress, iteration))
        if self.config.data == "scores":
            score, bar = batch.need("score"), self.config.threshold
            if bar is None:
                signal["label"] = normalise_groups(score, batch.group_size, "none", 0.0).sign()
            else:
                signal["label"] = 2.0 * (score > bar).to(score.dtype) - 1.0
        return signal

    @abstractmethod
    def label_loss(self, desirable: Tensor, undesirable: Tensor, kl: Tensor | None) -> Tensor:
        """Returns the loss of log-ratios (D,) and (U,), either of which may be empty.

        `kl` is the mean over responses of the policy's exact KL to the reference along each, nats,
        or None where the policy cannot give it.
        """

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns `label_loss` of the minibatch's responses."""
        ratio = ((output.logp - signal["reference"]) * batch.mask).sum(1)
        exact = output.kl_ref if self.config.reference == "sft" else output.kl_old
        kl = None if exact is None else (exact * batch.mask).sum(1).mean()
        if "label" in signal:
            label = signal["label"] * batch.mask.any(1)
            good, bad = ratio[label > 0], ratio[label < 0]
        else:
            good, bad = ratio[batch.need("pairs")].unbind(1)
        return Loss(self.label_loss(good, bad, kl))
