"""Gymnasium environments of our own, right and wrong: `environments:Name-v0` registers them."""

from __future__ import annotations

import threading
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env[Any, Any]):
    """A walk on a line from a place drawn at reset, with a wind; reward is -|place|."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space: spaces.Space[Any] = spaces.Discrete(3, start=-1)
    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episodes += 1
        self.place, self.age = float(self.np_random.normal(scale=3.0)), 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        wind = 0.1 * float(self.np_random.normal())
        self.place += 0.5 * float(np.asarray(action).sum()) + wind
        self.age += 1
        return self.seen(), -abs(self.place), abs(self.place) > 8.0, False, {}

    def seen(self) -> Any:
        return np.array([self.place, self.age / 20])


class Locked(Walk):
    """It cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Shared(Walk):
    """A copy of it shares what it acts on with the original."""

    class Place:
        value = 0.0

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    def __init__(self) -> None:
        self.held = self.Place()

    @property
    def place(self) -> float:
        return self.held.value

    @place.setter
    def place(self, value: float) -> None:
        self.held.value = value


class Unseeded(Walk):
    """Its start is not drawn from the seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return super().reset(seed=None)


class Remembering(Walk):
    """The number of its episodes is part of what is seen."""

    def seen(self) -> Any:
        return np.array([self.place, float(self.episodes)])


class Boxed(Walk):
    """Actions of another range and shape."""

    action_space = spaces.Box(-3.0, 1.0, (1, 2), np.float32)


class Unbounded(Walk):
    """Actions without bounds."""

    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Several(Walk):
    """Several choices at once."""

    action_space = spaces.MultiDiscrete([2, 2])


class Nan(Walk):
    """Its reward is no number."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, _, *rest = super().step(action)
        return seen, float("nan"), *rest


for made in (Walk, Locked, Shared, Unseeded, Remembering, Boxed, Unbounded, Several, Nan):
    gymnasium.register(f"{made.__name__}-v0", f"{__name__}:{made.__name__}", max_episode_steps=20)
gymnasium.register("Endless-v0", f"{__name__}:Walk")
