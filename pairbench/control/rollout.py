"""The closed loop: a policy acts in many simulations, everything else is computed afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pairbench.control.mujoco_env import Float, Simulations, Single


class Acting(Protocol):
    """What the loop asks of a policy's acting half; arrays are (N, ...) for N simulations."""

    def prepare(self, noise: Single) -> Single:
        """Returns `noise` as `act` wants it, computed once for the whole rollout."""
        ...

    def normalise(self, observations: Float, out: Single) -> None:
        """Writes the observations that `act` reads."""
        ...

    def act(self, observations: Single, prepared: Single, out: Single) -> None:
        """Writes actions, not clipped."""
        ...


@dataclass
class Rollout:
    """T steps of N simulations, time first.

    Attributes:
        physics: (T + 1, N, nq + nv) positions and velocities before each step and after the last.
        observations: (T + 1, N, D) normalised observations of the same.
        actions: (T, N, A) before clipping.
        ends: rows of (step, simulations, physics) where episodes ended before the rollout did: the
            state after that step, which `physics` no longer shows, since a new episode follows it.
    """

    physics: Float
    observations: Single
    actions: Single
    ends: list[tuple[int, NDArray[np.integer], Float]]

    @classmethod
    def empty(cls, simulations: Simulations, steps: int) -> Rollout:
        """Returns arrays for `steps` steps of `simulations`."""
        count, width = simulations.physics.shape
        return cls(
            np.empty((steps + 1, count, width)),
            np.empty((steps + 1, count, simulations.observations), np.float32),
            np.empty((steps, count, simulations.actions), np.float32),
            [],
        )

    @property
    def clipped(self) -> Single:
        """(T, N, A) the controls that were applied."""
        return np.clip(self.actions, -1.0, 1.0)

    def after(self) -> Float:
        """Returns (T, N, nq + nv) the physics after each step, of the episode it belongs to."""
        if not self.ends:
            return self.physics[1:]
        after = self.physics[1:].copy()
        for step, simulations, physics in self.ends:
            after[step, simulations] = physics
        return after


def roll(
    simulations: Simulations,
    actor: Acting,
    noise: Single,
    out: Rollout,
    follow: Callable[[int], None] | None = None,
) -> Rollout:
    """Runs every simulation from its present state for as many steps as `noise` (T, N, A) has.

    Args:
        noise: the policy's own randomness, drawn beforehand.
        out: filled and returned.
        follow: called after each step with its number; may start new episodes and note `out.ends`.
    """
    out.ends.clear()
    prepared = actor.prepare(noise)
    physics, control, walker = simulations.physics, simulations.control, simulations.walker
    step, normalise, act, observe = simulations.step, actor.normalise, actor.act, walker.observe
    minimum, maximum = np.minimum, np.maximum
    clipped = np.empty_like(noise[0])
    for t in range(len(noise)):
        out.physics[t] = physics
        normal, action = out.observations[t], out.actions[t]
        normalise(observe(physics), normal)
        act(normal, prepared[t], action)
        minimum(action, 1.0, out=clipped)
        maximum(clipped, -1.0, out=clipped)
        control[...] = clipped
        step()
        if follow is not None:
            follow(t)
    out.physics[len(noise)] = physics
    normalise(observe(physics), out.observations[len(noise)])
    return out
