from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from pairbench.control.environment import Environments, surface
from pairbench.errors import PairBenchError
from pairbench.seeding import generator

OURS = "tests.support.environments:"
KNOWN = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCarContinuous-v0",
    "Swimmer-v5",
    "HalfCheetah-v5",
    "Ant-v5",
    f"{OURS}Walk-v0",
    f"{OURS}Boxed-v0",
)


def acting(name: str, steps: int, seed: int = 3) -> Any:
    """(T, A) actions as the loop gives them: in [-1, 1], or one-hot."""
    found = surface(name)
    draw = np.random.Generator(np.random.Philox(key=seed))
    actions = draw.uniform(-1, 1, (steps, found.actions)).astype(np.float32)
    return np.eye(found.actions)[actions.argmax(1)] if found.discrete else actions


@pytest.mark.parametrize("name", KNOWN)
def test_each_step_is_that_of_gymnasium_make(name: str) -> None:
    found, actions = surface(name), acting(name, 25)
    envs = Environments(name, found, 1)
    envs.reset(np.array([0]), generator(0, "starts"))
    seed = int(generator(0, "starts").integers(2**31, size=1)[0])
    peer: Any = gymnasium.make(name)
    seen = [np.append(peer.reset(seed=seed)[0].reshape(-1), [0.0, 0.0])]
    rows = [envs.physics[0].copy()]
    space = peer.action_space
    for action in actions:
        envs.control[...] = action
        envs.step()
        rows.append(envs.physics[0].copy())
        if found.discrete:
            theirs = space.start + action.argmax()
        else:
            unit = (action + 1) / 2
            theirs = (space.low.reshape(-1) * (1 - unit) + space.high.reshape(-1) * unit).astype(
                np.float32
            )
            theirs = theirs.reshape(space.shape)
            if (space.high == 1).all() and (space.low == -1).all():
                theirs = action
        observation, reward, ended, _, _ = peer.step(theirs)
        seen.append(np.append(observation.reshape(-1), [reward, ended]))
        if ended:
            break
    exact = found.discrete or bool((space.high == 1).all() and (space.low == -1).all())
    np.testing.assert_allclose(rows[: len(seen)], seen, rtol=0 if exact else 1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("CartPole-v1", True),
        ("Pendulum-v1", True),
        ("Swimmer-v5", True),
        ("HalfCheetah-v5", True),
        ("Ant-v5", True),
        (f"{OURS}Walk-v0", True),
        (f"{OURS}Locked-v0", False),
        (f"{OURS}Shared-v0", False),
    ],
)
def test_rows_go_on_from_the_same_state_by_copy_or_anew_from_the_seed(
    name: str, copies: bool
) -> None:
    found, actions = surface(name), acting(name, 10)
    envs = Environments(name, found, 3)
    assert envs.copies is copies
    envs.reset(np.arange(3), generator(0, "starts"))
    for action in actions[:5]:
        envs.control[...] = action
        envs.step()
    moment = envs.state[:1].copy()
    before = None
    for _ in range(2):  # the second time, no row is there any more
        envs.state[...] = np.repeat(moment, 3, axis=0)
        start = envs.physics.copy()
        assert bool((start == start[0]).all())
        ends = []
        for action in actions[5:]:
            envs.control[...] = action
            envs.step()
            ends.append(envs.physics.copy())
        assert bool((np.array(ends) == np.array(ends)[:, :1]).all())
        if before is not None:
            np.testing.assert_array_equal(ends, before)
        before = ends
    envs.replay(1, moment[0, 0].seed, moment[0, 0].actions())
    np.testing.assert_array_equal(envs.physics[1], start[0])


def test_an_ended_episode_stays_where_it_is_without_reward() -> None:
    envs = Environments("CartPole-v1", surface("CartPole-v1"), 1)
    envs.reset(np.array([0]), generator(0, "starts"))
    envs.control[...] = [1.0, 0.0]
    rewards, over = [], []
    for _ in range(30):
        envs.step()
        rewards.append(envs.physics[0, -2])
        over.append(envs.physics[0, -1])
    end = int(np.argmax(over))
    assert 5 < end < 20
    assert rewards == [1.0] * (end + 1) + [0.0] * (29 - end)
    assert over == [0.0] * end + [1.0] * (30 - end)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPoel-v1", "gymnasium cannot make 'CartPoel-v1'"),
        ("no_module_of_that_name:X-v0", "gymnasium cannot make"),
        (f"{OURS}Endless-v0", "has no time limit, .* set time_limit of its task"),
        (f"{OURS}Unbounded-v0", "are an unbounded Box, .* register it with a wrapper"),
        (f"{OURS}Several-v0", "are MultiDiscrete, .* register it with a wrapper"),
    ],
)
def test_what_cannot_be_a_task_is_refused_in_a_sentence(name: str, said: str) -> None:
    with pytest.raises(PairBenchError, match=said):
        surface(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Unseeded-v0", r"another episode from the same seed .* have reset\(seed=...\) seed all"),
        ("Remembering-v0", r"another episode from the same seed .* nothing of the episode before"),
        ("Nan-v0", "that is NaN or infinite"),
    ],
)
def test_what_does_not_repeat_itself_is_refused(name: str, said: str) -> None:
    with pytest.raises(PairBenchError, match=said):
        Environments(OURS + name, surface(OURS + name), 1)
