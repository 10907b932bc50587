"""PPO: Stable-Baselines3's numbers, TRL's recipe for language, refusals."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithms.ppo import PPO
from pairbench.batch import Batch, single_steps
from pairbench.policy import PolicyOutput
from tests.support.fixtures import close, tensor


def control_batch() -> Batch:
    """Returns four steps: the third ends an episode, the fourth is cut off (value .25)."""
    zero = torch.zeros(1, 4, dtype=torch.float64)
    return Batch(
        contexts=zero,
        responses=zero,
        mask=torch.ones(1, 4, dtype=torch.float64),
        old_logp=zero,
        group=torch.zeros(1, dtype=torch.int64),
        step_reward=tensor([[1.0, 0.5, -0.2, 0.3]]),
        value=tensor([[0.4, 0.3, 0.2, 0.1]]),
        next_value=tensor([[0.3, 0.2, 0.0, 0.25]]),
        boundary=tensor([[0.0, 0.0, 1.0, 1.0]]),
    ).check()


def language_batch() -> Batch:
    """Returns the simplified TRL case: two responses of 3 and 2 tokens, the score on the last."""
    return Batch(
        contexts=torch.zeros(2, 3),
        responses=torch.zeros(2, 3),
        mask=tensor([[1, 1, 1], [1, 1, 0]]),
        old_logp=tensor([[-1.1, -0.6, -1.8], [-0.6, -1.0, 0.0]]),
        ref_logp=tensor([[-1.2, -0.5, -1.9], [-0.8, -1.1, 0.0]]),
        group=torch.arange(2),
        step_reward=tensor([[0.0, 0.0, 1.0], [0.0, -0.5, 0.0]]),
        value=tensor([[0.2, 0.1, 0.3], [0.0, 0.4, 0.0]]),
        next_value=tensor([[0.1, 0.3, 0.0], [0.4, 0.0, 0.0]]),
        boundary=tensor([[0, 0, 1], [0, 1, 1]]),
    ).check()


LANGUAGE = PPO.Config(
    gamma=1.0,
    lam=0.95,
    kl_coef=0.05,
    advantage_norm="batch",
    value_clip=0.2,
    value_clip_form="max",
    vf_coef=0.05,  # TRL's .1 times its factor 1/2
)


@pytest.mark.parametrize("flat", [False, True])
def test_loss_equals_stable_baselines3(flat: bool) -> None:
    """rl-zoo's coefficients: -.012662 + .58096 x value loss .311857 - .000401762 x 1.4."""
    ppo = PPO(PPO.Config(clip=0.1, gamma=0.98, lam=0.92, ent_coef=0.000401762, vf_coef=0.58096))
    batch = control_batch()
    signal = ppo.prepare(batch, 0.0, 0)
    close(signal["advantage"], [[0.925881, 0.035360, -0.4, 0.445]])
    close(signal["return"], [[1.325881, 0.335360, -0.2, 0.545]])
    logp, value = tensor([[0.1, -0.2, 0.05, -0.15]]), tensor([[0.5, 0.2, 0.3, 0.0]])
    entropy = torch.full_like(logp, 1.4)
    if flat:
        batch, signal = single_steps(batch, signal)
        logp, value, entropy = logp.T, value.T, entropy.T
    loss = ppo.loss(PolicyOutput(logp, value, entropy=entropy), batch, signal)
    close(loss.value, 0.167952)
    close(loss.diagnostics["clip_fraction"], 0.75)  # of ratios 1.105, .819, 1.051, .861
    policy_only = PPO(ppo.config.model_copy(update={"vf_coef": 0.0, "ent_coef": 0.0}))
    close(policy_only.loss(PolicyOutput(logp, value), batch, signal).value, -0.012662)


def test_without_an_exact_entropy_the_bonus_is_the_mean_surprise() -> None:
    ppo = PPO(PPO.Config(ent_coef=0.5, vf_coef=0.0, advantage_norm="none"))
    batch = control_batch()
    signal = {"advantage": torch.zeros(1, 4, dtype=torch.float64)}
    loss = ppo.loss(PolicyOutput(tensor([[-1.0, -2.0, -3.0, -4.0]])), batch, signal)
    close(loss.value, -0.5 * 2.5)


def test_loss_equals_trls_recipe_for_language() -> None:
    """Score on the last real token, k1, whitened over the batch, larger value loss.

    Whitened advantages, policy loss -.072574, value loss .302609, total pg + .1 vf = -.042313.
    """
    ppo, batch = PPO(LANGUAGE), language_batch()
    signal = ppo.prepare(batch, 0.0, 0)
    real = signal["advantage"][batch.mask > 0]
    close(real, [0.662567, 0.845672, 0.635413, -0.803058, -1.340594])
    logp = tensor([[-1.0, -0.5, -2.0], [-0.7, -1.2, 0.0]])
    value = tensor([[0.25, 0.0, 0.6], [0.4, 0.3, 0.0]])
    close(ppo.loss(PolicyOutput(logp, value), batch, signal).value, -0.042313)
    policy_only = PPO(LANGUAGE.model_copy(update={"vf_coef": 0.0}))
    close(policy_only.loss(PolicyOutput(logp, value), batch, signal).value, -0.072574)


def test_k3_penalties_differ_from_k1_in_the_rewards_only_by_the_estimate() -> None:
    """With k3 the first return of row 0 is the score less the sum of .05 k3, by hand."""
    config = LANGUAGE.model_copy(update={"kl_estimator": "k3", "lam": 1.0})
    batch = language_batch()
    returns = PPO(config).prepare(batch, 0.0, 0)["return"]
    assert batch.ref_logp is not None
    u = (batch.ref_logp - batch.old_logp)[0]
    close(returns[0, 0], float(1.0 - 0.05 * (u.exp() - u - 1.0).sum()), 1e-12)


@pytest.mark.parametrize(("form", "expected"), [("replace", 0.04), ("max", 0.16)])
def test_value_clipping_forms(form: str, expected: float) -> None:
    ppo = PPO(PPO.Config(value_clip=0.6, value_clip_form=form, advantage_norm="none", vf_coef=1.0))
    one = torch.ones(1, 1, dtype=torch.float64)
    batch = Batch(
        contexts=one,
        responses=one,
        mask=one,
        old_logp=0 * one,
        group=torch.zeros(1, dtype=torch.int64),
        value=0.2 * one,
    )
    signal = {"advantage": 0 * one, "return": one}
    # new value 1.4: .4 from the return; held to .2 + .6 = .8, .2 from it
    close(ppo.loss(PolicyOutput(0 * one, 1.4 * one), batch, signal).value, expected, 1e-12)


def test_it_needs_steps_rewards_a_critic_and_a_reference_only_for_the_penalty() -> None:
    needs = PPO(PPO.Config()).needs
    assert (needs.data, needs.feedback, needs.critic, needs.reference) == (
        "steps",
        "rewards",
        True,
        False,
    )
    assert PPO(LANGUAGE).needs.reference


@pytest.mark.parametrize(
    "setting",
    [{"clip": 1.0}, {"clip": 0.0}, {"gamma": 1.1}, {"lam": -0.1}, {"group_size": 2}, {"typo": 1}],
)
def test_bad_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        PPO.Config.model_validate(setting)
