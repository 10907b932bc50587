"""Stable-Baselines3's own PPO as a row: it trains, PairBench's task evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
import torch

from pairbench import (
    DivergedError,
    External,
    Field,
    Needs,
    PairBenchError,
    Presets,
    register_algorithm,
)
from pairbench.seeding import derive

if TYPE_CHECKING:
    from pairbench.training.run import Run


@register_algorithm("sb3-ppo")
class SB3PPO(External):
    """PPO as Stable-Baselines3 trains it, on Gymnasium's environments with its VecNormalize.

    `contexts` is SB3's number of environments, `segment` its n_steps, `epochs` its n_epochs, and
    its batch_size is contexts x segment / minibatches. Observations are normalised, rewards are
    not. The network is the task's own size; SB3 draws its initial weights itself from the run's
    seed, and its log-std has no floor.
    """

    source = "Stable-Baselines3 2.9.2, stable_baselines3.PPO"
    presets: ClassVar[Presets] = {
        "control": {"contexts": 8, "segment": 128, "epochs": 10, "minibatches": 4, "lr": 1e-3}
    }

    class Config(External.Config):
        """Stable-Baselines3's names and defaults where ours does not say the same."""

        group_size: int = Field(1, ge=1, le=1, description="PPO compares nothing: always 1")
        clip_range: float = Field(0.2, gt=0, lt=1, description="clip range of the ratio")
        gamma: float = Field(0.99, ge=0, le=1, description="discount")
        gae_lambda: float = Field(0.95, ge=0, le=1, description="lambda of GAE")
        ent_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
        vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
        log_std_init: float = Field(-0.5, description="initial log standard deviation")

    config: Config

    kinds = ("control",)
    packages = ("stable-baselines3",)

    @property
    def needs(self) -> Needs:
        return Needs("steps", "rewards", critic=True)

    def fit(self, run: Run) -> None:
        """Trains to the end of the budget; the policy is handed over before each evaluation."""
        try:
            import stable_baselines3 as sb3
            from stable_baselines3.common.callbacks import BaseCallback
            from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
        except ImportError as error:
            raise PairBenchError(
                "the row sb3-ppo needs Stable-Baselines3: pip install 'pairbench[reference]'"
            ) from error
        config, protocol = self.config, run.spec.protocol
        name = run.task.gymnasium_id  # type: ignore[attr-defined]  # kinds: control tasks have it
        seed = derive(run.spec.seed, "sb3-ppo") % 2**31
        envs = VecNormalize(
            DummyVecEnv([lambda: gymnasium.make(name) for _ in range(config.contexts)]),
            norm_reward=False,
            clip_obs=10.0,
        )
        size = config.contexts * config.segment
        model = sb3.PPO(
            "MlpPolicy",
            envs,
            learning_rate=(lambda left: config.lr * left) if protocol.anneal else config.lr,
            n_steps=config.segment,
            batch_size=size // config.minibatches,
            n_epochs=config.epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            ent_coef=config.ent_coef,
            vf_coef=config.vf_coef,
            max_grad_norm=config.max_grad_norm,
            policy_kwargs={
                "log_std_init": config.log_std_init,
                "optimizer_kwargs": {"eps": protocol.adam_eps},
            },
            seed=seed,
            device="cpu",
        )
        run.policy.floor = float("-inf")  # type: ignore[attr-defined]  # SB3's log-std has none

        def hand_over() -> None:
            policy: Any = model.policy
            linear = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
            layers = [(m.weight, m.bias) for m in (*linear, policy.action_net)]
            if not all(bool(torch.isfinite(weight).all()) for weight, _ in layers):
                raise DivergedError(run.cost.iterations, "a weight")
            seen = run.policy.normaliser  # type: ignore[attr-defined]
            rms: Any = envs.obs_rms
            seen.mean, seen.variance = np.array(rms.mean), np.array(rms.var)
            seen.count = float(rms.count)
            run.policy.load_layers(layers, policy.log_std, seen)  # type: ignore[attr-defined]

        class Account(BaseCallback):
            """Counts what SB3 spends; before each rollout the last update is complete."""

            def _on_rollout_start(self) -> None:
                done = self.num_timesteps // size
                if done > run.cost.iterations:
                    run.cost.iterations = done
                    run.cost.steps = run.cost.scores = self.num_timesteps
                    run.cost.gradient_steps = done * config.epochs * config.minibatches
                    hand_over()
                    self.over = run.spent()

            def _on_step(self) -> bool:
                return not getattr(self, "over", False)

        steps = protocol.budget.steps
        assert steps is not None  # `limit`
        model.learn(total_timesteps=steps, callback=Account())
        run.cost.iterations = model.num_timesteps // size
        run.cost.steps = run.cost.scores = model.num_timesteps
        run.cost.gradient_steps = run.cost.iterations * config.epochs * config.minibatches
        hand_over()
        envs.close()
