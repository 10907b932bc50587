"""`gym:CartPole-v1`: a Gymnasium environment as a task, by its own name."""

from __future__ import annotations

from functools import cache

from pairbench import PairBenchError
from pairbench.control.gymnasium_task import GymnasiumTask
from pairbench.registry import entries, register_task, specialised


@register_task("gym")
class Gym(GymnasiumTask):
    """Any Gymnasium environment with Box or Discrete actions, as in gym:CartPole-v1."""

    source = "Gymnasium's registry"

    @classmethod
    @cache
    def of(cls, what: str) -> type[Gym]:
        """Returns the task of an environment, as `gymnasium.make` names it."""
        if what.lower() in entries("task"):
            raise PairBenchError(
                f"gym:{what} is the task {what.lower()}, which computes the same faster: name that"
            )
        return specialised(cls, what, gymnasium_id=what)
