"""Which methods are trained on single steps, and what their loss is then given.

A response of T steps is one row of a batch. Where a method learns from the reward of each step, and
the policy's output at a step depends on that step alone, every step is a row of its own instead:
minibatches then mix the steps of all responses, as PPO's do.
"""

from __future__ import annotations

from pairbench.algorithm import Needs
from pairbench.batch import Batch, Signal, flatten_signal
from pairbench.policy import Policy


def by_steps(needs: Needs, policy: Policy) -> bool:
    """Returns whether a method with these needs is trained on the single steps of this policy."""
    return needs.data == "steps" and policy.stepwise


def as_trained(needs: Needs, policy: Policy, batch: Batch, signal: Signal) -> tuple[Batch, Signal]:
    """Returns the rows that minibatches are made of: single steps where `by_steps` says so."""
    if not by_steps(needs, policy):
        return batch, signal
    return batch.flatten_steps(), flatten_signal(signal, batch.mask)
