"""Which methods are trained on single steps, and what their loss is then given.

A response of T steps is one row of a batch. Where a method learns from the reward of each step, and
the policy's output at a step depends on that step alone, every step is a row of its own instead:
minibatches then mix the steps of all responses, as PPO's do.
"""

from __future__ import annotations

from pairbench.algorithm import Needs
from pairbench.batch import Batch, Minibatch, Signal, single_steps


def by_steps(needs: Needs, stepwise: bool) -> bool:
    """Returns whether a method with these needs is trained on single steps.

    `stepwise` is the policy's, see `Policy.stepwise`.
    """
    return needs.data == "steps" and stepwise


def as_trained(
    needs: Needs, stepwise: bool, batch: Batch, signal: Signal
) -> tuple[Minibatch, Signal]:
    """Returns the rows that minibatches are made of: single steps where `by_steps` says so."""
    if by_steps(needs, stepwise):
        batch, signal = single_steps(batch, signal)
    return batch.for_loss(), signal
