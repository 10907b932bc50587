"""An iteration of `ppo` on HalfCheetah-v4 is Stable-Baselines3's, weight for weight.

The same rollout (one episode ends in the middle of it), the same initial weights and the same
order of minibatches go through both libraries: advantages, forty Adam steps and the policy after
them agree, so rows of the two differ by their random numbers and by how observations' statistics
are kept, not by their objective.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pairbench.algorithms.ppo import PPO
from pairbench.experiments.suite import plan
from pairbench.seeding import Streams, generator
from pairbench.tasks.halfcheetah_v4 import HalfCheetah
from pairbench.training.loop import Loop
from pairbench.training.run import Run

SEED = 4


def begin() -> Loop:
    """Returns a loop whose normaliser has seen some iterations and whose policy none."""
    grid = plan(algorithms=["ppo"], tasks=["halfcheetah-v4"], seeds=[SEED], budget={"steps": 1e6})
    (spec,) = grid.specs
    algorithm = PPO(PPO.Config(**spec.algorithm_config))
    task, streams = HalfCheetah(HalfCheetah.Config()), Streams(SEED)
    session = task.begin(algorithm, streams)
    run = Run(spec, algorithm, task, session, streams)
    for _ in range(3):
        session.collect(0)
    session.chains.ages[:] = [
        900,
        0,
        130,
        260,
        390,
        520,
        650,
        780,
    ]
    return Loop(run, None, 0.0)


def theirs(loop: Loop) -> Any:
    """Returns Stable-Baselines3's PPO at the preset's settings, with the loop's weights."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.vec_env import DummyVecEnv

    config: Any = loop.config
    model = sb3.PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: gymnasium.make("HalfCheetah-v4") for _ in range(config.contexts)]),
        learning_rate=config.lr,
        n_steps=config.segment,
        batch_size=config.contexts * config.segment // config.minibatches,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.lam,
        clip_range=config.clip,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        device="cpu",
    )
    model.set_logger(configure(None, []))
    policy: Any = loop.policy
    with torch.no_grad():
        for (weight, bias), linear in zip(
            (*policy.network.layers, *policy.critic.layers), layers(model), strict=True
        ):
            linear.weight.copy_(weight.t())
            linear.bias.copy_(bias)
        model.policy.log_std.copy_(policy.network.extra)
    return model


def layers(model: Any) -> list[Any]:
    """Returns the linear layers of the policy and then of the value, in the order of ours."""
    extractor, policy = model.policy.mlp_extractor, model.policy
    first = [m for m in extractor.policy_net if isinstance(m, torch.nn.Linear)]
    second = [m for m in extractor.value_net if isinstance(m, torch.nn.Linear)]
    return [*first, policy.action_net, *second, policy.value_net]


def test_an_iteration_is_that_of_stable_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = begin()
    model = theirs(loop)
    batch = loop.session.collect(0)
    signal = loop.algorithm.prepare(batch, 0.0, 0)
    ends = batch.boundary.bool()  # type: ignore[union-attr]
    assert ends[:, :-1].nonzero().tolist() == [[0, 99]]

    buffer, gamma = model.rollout_buffer, model.gamma
    buffer.reset()
    reward = batch.step_reward.clone()  # type: ignore[union-attr]
    reward[0, 99] += gamma * batch.next_value[0, 99]  # type: ignore[index]
    starts = torch.zeros_like(reward)
    starts[:, 1:] = ends[:, :-1].float()
    for t in range(batch.steps):
        buffer.add(
            batch.contexts[:, t].numpy(),
            batch.responses[:, t].numpy(),
            reward[:, t].numpy(),
            starts[:, t].numpy(),
            batch.value[:, t],  # type: ignore[index]
            batch.old_logp[:, t],
        )
    dones = np.zeros(len(batch))
    buffer.compute_returns_and_advantage(batch.next_value[:, -1], dones)  # type: ignore[index]
    ours = signal["advantage"].numpy().T
    np.testing.assert_allclose(buffer.advantages, ours, rtol=1e-4, atol=1e-4)

    order = generator(SEED, "minibatch")
    monkeypatch.setattr(np.random, "permutation", order.permutation)
    before = loop.policy.network.flat.detach().clone()  # type: ignore[attr-defined]
    loop.update(batch, signal, 1.0)
    model.train()
    policy: Any = loop.policy
    for (weight, bias), linear in zip(
        (*policy.network.layers, *policy.critic.layers), layers(model), strict=True
    ):
        torch.testing.assert_close(weight.t(), linear.weight.detach(), rtol=1e-3, atol=2e-4)
        torch.testing.assert_close(bias, linear.bias.detach(), rtol=1e-3, atol=2e-4)
    log_std = model.policy.log_std.detach()
    torch.testing.assert_close(policy.network.extra, log_std, rtol=1e-3, atol=2e-4)
    assert float((policy.network.flat.detach() - before).abs().max()) > 0.01  # both moved
