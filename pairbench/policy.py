"""What a policy is to the rest: something that scores a batch, can be stepped, and can be saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pairbench.batch import Batch

Lazy = Tensor | Callable[[], Tensor] | None


class PolicyOutput:
    """A policy's differentiable view of a batch of B rows and T steps.

    `logp` and `value` are computed; the rest may be given as functions, which run on first use, so
    that a loss pays only for what it reads.

    Attributes:
        logp: (B, T) log-probability (or log-density) of each step, nats.
        value: (B, T) the critic's present estimates, or None without a critic.
        entropy: (B, T) entropy of the distribution each step was drawn from, nats.
        kl_old: (B, T) exact KL(pi_theta || pi_old) of the step's distribution, or None where the
            policy cannot give it (it is then estimated from samples).
        kl_ref: (B, T) exact KL(pi_theta || pi_ref), or None likewise.
        all_logp: (B, K) log-probabilities of all K responses where they can be enumerated.
        offline: the view of `Batch.offline`, where the batch has it.
    """

    offline: PolicyOutput | None = None

    def __init__(
        self,
        logp: Tensor,
        value: Tensor | None = None,
        *,
        entropy: Lazy = None,
        kl_old: Lazy = None,
        kl_ref: Lazy = None,
        all_logp: Lazy = None,
    ) -> None:
        self.logp = logp
        self.value = value
        self._lazy: dict[str, Lazy] = {
            "entropy": entropy,
            "kl_old": kl_old,
            "kl_ref": kl_ref,
            "all_logp": all_logp,
        }

    def _get(self, name: str) -> Tensor | None:
        value = self._lazy[name]
        if value is not None and not isinstance(value, Tensor):
            value = self._lazy[name] = value()
        return value

    @property
    def entropy(self) -> Tensor | None:
        return self._get("entropy")

    @property
    def kl_old(self) -> Tensor | None:
        return self._get("kl_old")

    @property
    def kl_ref(self) -> Tensor | None:
        return self._get("kl_ref")

    @property
    def all_logp(self) -> Tensor | None:
        return self._get("all_logp")


def view(policy: Policy, batch: Batch) -> PolicyOutput:
    """Returns what `policy` makes of a batch, and of the offline pairs beside it if it has any."""
    output = policy(batch)
    if batch.offline is not None:
        output.offline = policy(batch.offline)
    return output


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: `role` is "policy" or "critic"."""

    role: str
    tensors: list[Tensor]


class Policy(Protocol):
    """A trained thing. Calling it is differentiable and draws nothing at random."""

    @property
    def stepwise(self) -> bool:
        """Whether the output at a step depends on that step's own context and response only."""
        ...

    def __call__(self, batch: Batch) -> PolicyOutput: ...

    def parameters(self) -> list[ParameterGroup]:
        """Returns the leaf tensors to train, as few as possible (flat vectors where it can)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Returns every tensor that defines the policy (weights, normalisation), detached."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned, in place."""
        ...
