"""Gymnasium environments as simulations whose states can be kept and returned to.

An environment has no state that can be read. What is kept instead is a `Moment`: the seed of its
episode and the actions since, from which the same state comes again. A row that must return to a
moment is copied from one that is there, where a copy proves to be the same, and else starts anew
from the seed and takes the same actions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from pairbench.control.mujoco_env import Float, Simulations, Single, Walker
from pairbench.errors import PairBenchError

if TYPE_CHECKING:
    import gymnasium

    Env = gymnasium.Env[Any, Any]

TRIED = 8
"""Steps that are taken twice to see whether an environment repeats itself."""

SPACES = ("observation_space", "action_space", "_observation_space", "_action_space")
APART = frozenset(("env", *SPACES, "spec", "_cached_spec", "metadata", "_metadata"))
"""Attributes of an environment, and of its wrappers, that are no part of its state."""


def make(name: str) -> Env:
    """Returns `gymnasium.make(name)` without its time limit, which the caller keeps.

    Raises:
        PairBenchError: there is no such environment, or something that it needs is missing.
    """
    import gymnasium

    try:
        return gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True)
    except Exception as error:  # whatever a constructor raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PairBenchError(f"gymnasium cannot make {name!r}: {reason}") from error


@dataclass(frozen=True)
class Surface(Walker):
    """What the loop asks of an environment; its physics are (D + 2) numbers.

    They are the observation, the reward of the step that led to it, and 1 where the episode ended.

    Attributes:
        observations: D, of the flattened observation.
        actions: numbers of an action: of a Box's, or A for one of A actions.
        discrete: whether the action is one of A.
    """

    observations: int = 0
    actions: int = 0
    discrete: bool = False

    @property
    def terminates(self) -> bool:
        return True

    def observe(self, physics: Float) -> Float:
        return physics[..., :-2]

    def healthy(self, physics: Float) -> NDArray[np.bool_]:
        lasts: NDArray[np.bool_] = physics[..., -1] == 0
        return lasts

    def effort(self, actions: Single) -> Single:
        return np.zeros(actions.shape[:-1], np.float32)

    def reward(self, before: Float, after: Float, actions: Single, dt: float) -> Float:
        return after[..., -2].copy()


@cache
def surface(name: str, time_limit: int | None = None) -> Surface:
    """Returns the facts of a Gymnasium environment, as `gymnasium.make` names it.

    Raises:
        PairBenchError: it cannot be made, has no time limit, or has an action space that is
            neither a bounded Box nor Discrete.
    """
    import gymnasium
    from gymnasium import spaces

    env = make(name)
    assert env.spec is not None
    limit = time_limit or gymnasium.spec(env.spec.id).max_episode_steps
    if limit is None:
        raise PairBenchError(
            f"{name} has no time limit, and evaluations would not end: set time_limit of its task"
        )
    actions = env.action_space
    if isinstance(actions, spaces.Discrete):
        count = int(actions.n)
    elif isinstance(actions, spaces.Box) and bool(np.isfinite([actions.low, actions.high]).all()):
        count = math.prod(actions.shape)
    else:
        kind = "an unbounded Box" if isinstance(actions, spaces.Box) else type(actions).__name__
        raise PairBenchError(
            f"the actions of {name} are {kind}, and policies here act in a bounded Box or in "
            "Discrete: register it with a wrapper that makes them so"
        )
    try:
        seen = spaces.flatdim(env.observation_space)
    except (NotImplementedError, ValueError) as error:
        raise PairBenchError(
            f"the observations of {name} cannot be flattened ({error}): register it with a wrapper "
            "that makes them a Box"
        ) from error
    env.close()
    return Surface(
        "",
        frame_skip=1,
        control_cost=0.0,
        time_limit=limit,
        observations=seen,
        actions=count,
        discrete=isinstance(actions, spaces.Discrete),
    )


class Moment:
    """A state of an environment: where its episode began, and the actions since.

    Attributes:
        seed: of the episode's reset.
        before: the moment before `action` was taken, None at the start.
        action: (A,) as the loop gave it, clipped to [-1, 1].
        physics: (D + 2,) as `Surface` says.
    """

    __slots__ = ("action", "before", "physics", "seed")

    def __init__(
        self, seed: int, before: Moment | None, action: Single | None, physics: Float
    ) -> None:
        self.seed, self.before, self.action, self.physics = seed, before, action, physics

    def actions(self) -> list[Single]:
        """Returns every action since the start, in order."""
        found = []
        moment: Moment | None = self
        while moment is not None and moment.action is not None:
            found.append(moment.action)
            moment = moment.before
        return found[::-1]


class Environments(Simulations):
    """`count` environments of one name, stepped together; see `Simulations`, whose place it takes.

    A row whose episode has ended stays where it is, with reward 0, until it is reset. An
    environment that cuts an episode off by itself has ended it.

    Attributes:
        state: (count, 1) the rows' moments; writing one sets that row.
        copies: whether a copied environment goes on as the original does; if not, a row returns to
            a moment from the seed of its episode.
    """

    def __init__(self, name: str, walker: Surface, count: int) -> None:
        """Makes the environments.

        Raises:
            PairBenchError: it cannot be made, or the same seed and actions give another episode.
        """
        self.name, self.walker, self.count, self.dt = name, walker, count, 1.0
        self.surface = walker
        self.actions, self.observations = walker.actions, walker.observations
        self.control: Float = np.zeros((count, walker.actions))
        self.state: Any = np.full((count, 1), None, object)
        self._physics: Float = np.zeros((count, walker.observations + 2))
        self._shown: list[Moment | None] = [None] * count
        self._at: list[Moment | None] = [None] * count
        self._kept: dict[Moment, Callable[[Env], None]] = {}
        self._envs = [make(name) for _ in range(count)]
        self._space: Any = self._envs[0].action_space
        self._seen: Any = self._envs[0].observation_space
        self.copies = self._try()

    @property
    def physics(self) -> Float:  # type: ignore[override]  # the parent's is a view of its state
        """(count, D + 2) what `Surface` reads, of the moments in `state`."""
        for row, moment in enumerate(self.state[:, 0]):
            if moment is not None and self._shown[row] is not moment:
                self._physics[row], self._shown[row] = moment.physics, moment
        return self._physics

    def reset(self, ids: NDArray[np.integer], generator: np.random.Generator) -> None:
        """Starts episodes of the rows `ids`, from seeds that `generator` gives."""
        for row, seed in zip(ids, generator.integers(2**31, size=len(ids))):
            self.state[row, 0] = self._start(int(row), int(seed))
        self.physics  # noqa: B018 (brings it up to date)

    def step(self) -> None:
        """Takes one step of every row under `control`."""
        self._bring()
        for row in range(self.count):
            moment: Moment = self.state[row, 0]
            if moment.physics[-1]:
                physics = moment.physics.copy()
                physics[-2] = 0.0
                after = Moment(moment.seed, moment.before, moment.action, physics)
                self._at[row] = after
            else:
                after = self._take(row, moment, self.control[row].astype(np.float32))
            self.state[row, 0] = after
        self.physics  # noqa: B018 (brings it up to date)

    def replay(self, row: int, seed: int, actions: Iterable[Single]) -> None:
        """Puts a row where actions, each (A,), lead from the start of the episode of `seed`."""
        moment = self._start(row, seed)
        for action in actions:
            moment = self._take(row, moment, action)
        self.state[row, 0] = moment

    def _start(self, row: int, seed: int) -> Moment:
        observation, _ = self._envs[row].reset(seed=seed)
        moment = Moment(seed, None, None, self._physics_of(observation, 0.0, False))
        self._at[row] = moment
        return moment

    def _take(self, row: int, moment: Moment, action: Single) -> Moment:
        seen, reward, ended, cut, _ = self._envs[row].step(self._spoken(action))
        physics = self._physics_of(seen, float(reward), bool(ended or cut))
        after = Moment(moment.seed, moment, action, physics)
        self._at[row] = after
        return after

    def _spoken(self, action: Single) -> Any:
        """Returns the environment's own action for one (A,) in [-1, 1]."""
        space = self._space
        if self.surface.discrete:
            return space.start + action.argmax()
        low, high = space.low, space.high
        flat = action.reshape(space.shape)
        if not ((low == -1.0) & (high == 1.0)).all():
            flat = low + (flat + 1.0) * (0.5 * (high - low))
        return np.clip(flat, low, high).astype(space.dtype)

    def _physics_of(self, observation: Any, reward: float, ended: bool) -> Float:
        from gymnasium import spaces

        physics: Float = np.empty(self.surface.observations + 2)
        seen: Any = spaces.flatten(self._seen, observation)
        physics[:-2] = seen
        physics[-2:] = reward, ended
        if not np.isfinite(physics).all():
            raise PairBenchError(
                f"{self.name} gives an observation or a reward that is NaN or infinite: have it "
                "end the episode before that"
            )
        return physics

    def _bring(self) -> None:
        """Brings each environment to its row's moment."""
        moments = self.state[:, 0]
        moved = [row for row, moment in enumerate(moments) if self._at[row] is not moment]
        if not moved:
            return
        there = {moment: row for row, moment in enumerate(self._at)}
        kept: dict[Moment, Callable[[Env], None]] = {}
        for moment in {moments[row] for row in moved} if self.copies else ():
            if moment in self._kept:
                kept[moment] = self._kept[moment]
            elif moment in there:
                kept[moment] = snapshot(self._envs[there[moment]])
        self._kept = kept
        for row in moved:
            moment = moments[row]
            if moment in kept:
                kept[moment](self._envs[row])
            else:
                self.replay(row, moment.seed, moment.actions())
            self.state[row, 0] = self._at[row] = moment

    def _try(self) -> bool:
        """Returns whether a copy goes on as the original does.

        Raises:
            PairBenchError: the same seed and the same actions give another episode.
        """
        draw = np.random.Generator(np.random.Philox(key=0))
        actions = draw.uniform(-1, 1, (2 * TRIED, self.actions)).astype(np.float32)
        first, second, copied = envs = [make(self.name) for _ in range(3)]

        def run(env: Env, some: Single) -> Iterator[bytes]:
            for action in some:
                seen, reward, ended, cut, _ = env.step(self._spoken(action))
                yield self._physics_of(seen, float(reward), bool(ended or cut)).tobytes()
                if ended or cut:
                    return

        def start(env: Env, seed: int) -> list[bytes]:
            begun = self._physics_of(env.reset(seed=seed)[0], 0.0, False)
            return [begun.tobytes(), *run(env, actions[:TRIED])]

        try:
            start(second, 2)
            early = start(first, 1)
            if early != start(second, 1):
                raise PairBenchError(
                    f"{self.name} gives another episode from the same seed and actions: have "
                    "reset(seed=...) seed all that it draws from, and keep nothing of the "
                    "episode before"
                )
            start(copied, 3)
            if len(early) <= TRIED:
                return False
            try:
                put = snapshot(first)
                late = list(run(first, actions[TRIED:]))
                for _ in range(2):
                    put(copied)
                    if late != list(run(copied, actions[TRIED:])):
                        return False
            except Exception:  # noqa: BLE001 (what cannot be copied is started anew)
                return False
            return True
        finally:
            for env in envs:
                env.close()


def snapshot(env: Env) -> Callable[[Env], None]:
    """Returns what puts another environment of the same kind into the present state of `env`."""
    kept = []
    for layer in _layers(env):
        values = {key: value for key, value in vars(layer).items() if key not in APART}
        values.pop("mujoco_renderer", None)
        data = values.pop("data", None) if isinstance(values.get("data"), mujoco.MjData) else None
        if data is not None:
            values.pop("model", None)
            data = copy.copy(data)
        kept.append((copy.deepcopy(values), data))

    def put(other: Env) -> None:
        for layer, (values, data) in zip(_layers(other), kept):
            vars(layer).update(copy.deepcopy(values))
            if data is not None:
                mujoco.mj_copyData(layer.data, layer.model, data)

    return put


def _layers(env: Any) -> Iterator[Any]:
    """Yields the wrappers and then the environment in them."""
    while env is not env.unwrapped:
        yield env
        env = env.env
    yield env
