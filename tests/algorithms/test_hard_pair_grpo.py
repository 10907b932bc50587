"""Hard-Pair-GRPO: targets, fits, schedule, trust region, and the paper's tabular case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithms.hard_pair_grpo import HardPairGRPO
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, close, every_pair, fixture_f, fixture_f_pair, tensor


def make(**settings: Any) -> HardPairGRPO:
    return HardPairGRPO(HardPairGRPO.Config(**{"group_size": 4, **settings}))


def value(method: HardPairGRPO) -> torch.Tensor:
    batch, output = fixture_f()
    return method.loss(output, batch, method.prepare(batch, 0.0, 0)).value


def test_target_of_fixture_f() -> None:
    """delta .02, uniform base, flows [1, -3, -1, 3] / 4."""
    batch, _ = fixture_f()
    close(make().prepare(batch, 0.0, 0)["target"], [0.255, 0.235, 0.245, 0.265], 1e-12)


def test_targets_of_a_pair_and_of_best_against_worst() -> None:
    pair, _ = fixture_f_pair()
    close(make(group_size=2).prepare(pair, 0.0, 0)["target"], [0.52, 0.48], 1e-12)
    batch, _ = fixture_f()
    extremes = replace(batch, pairs=torch.tensor([[0, 1]]))  # rewards [1, 0, .5, .2]
    method = make(mode="best-worst")
    close(method.prepare(extremes, 0.0, 0)["target"], [0.27, 0.23, 0.25, 0.25], 1e-12)
    assert method.needs.queries == "best-worst"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"fit": "forward", "trust_region": False}, 0.039107),
        ({"fit": "reverse", "trust_region": False}, 0.040818),
        ({"fit": "forward", "alpha": 0.5, "beta": 0.01}, 0.044053),
        ({"fit": "forward", "kappa": 1.0, "trust_region": False}, 0.032282),
    ],
)
def test_golden_losses(settings: dict[str, Any], expected: float) -> None:
    """p = [.222484, .164820, .366814, .245883] on fixture F; token k3 to pi_old .019892."""
    close(value(make(**settings)), expected)


def test_golden_loss_of_a_gaussian() -> None:
    """mu .1 from 0, sigma .5, actions [.4, -.3, .1, .9]: closed KL .02 > .01 adds .005."""
    batch, _ = fixture_f()
    action = tensor([[0.4], [-0.3], [0.1], [0.9]])

    def density(mean: float) -> torch.Tensor:
        return torch.distributions.Normal(mean, 0.5).log_prob(action)

    one = torch.ones_like(action)
    batch = replace(
        batch, contexts=one, responses=action, mask=one, old_logp=density(0.0), ref_logp=None
    ).check()
    method = make(fit="forward", alpha=0.5, beta=0.01)
    output = PolicyOutput(density(0.1), kl_old=0.02 * one)
    close(method.loss(output, batch, method.prepare(batch, 0.0, 0)).value, 0.013637)


def tabular_batch(responses: list[int], pairs: list[list[int]], size: int) -> Batch:
    """Returns groups of one context with pi_old = (.5, .3, .2)."""
    arms = torch.tensor(responses).unsqueeze(1)
    rows = len(responses)
    old = tensor([0.5, 0.3, 0.2]).log()
    return Batch(
        contexts=torch.zeros(rows, 1, dtype=torch.int64),
        responses=arms,
        mask=torch.ones(rows, 1, dtype=torch.float64),
        old_logp=old[arms],
        old_dist=old.expand(rows, 1, 3),
        group=torch.arange(rows // size).repeat_interleave(size),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
    ).check()


def test_golden_loss_of_the_papers_tabular_target() -> None:
    """pi = (.51, .3, .19): KL(pi || tar) .000370, KL(pi || old) .000354, loss .000496."""
    batch = tabular_batch([0, 2], [[0, 1]], 2)
    policy = tensor([0.51, 0.3, 0.19]).log().expand(2, 3)
    assert batch.old_dist is not None
    exact = (policy.exp() * (policy - batch.old_dist[:, 0])).sum(1, keepdim=True)
    output = PolicyOutput(policy.gather(1, batch.responses), kl_old=exact, all_logp=policy)
    settings: dict[str, Any] = {"group_size": 2, "target": "tabular", "beta": 1e-4}
    method = make(**settings)
    signal = method.prepare(batch, 0.0, 0)
    close(signal["target"], [[0.52, 0.3, 0.18]] * 2, 1e-12)
    close(method.loss(output, batch, signal).value, 0.000496)
    free = make(**settings, trust_region=False)
    close(free.loss(output, batch, signal).value, 0.000370)
    assert method.needs.enumerable


def test_a_tabular_target_adds_up_repeated_responses_and_ignores_a_pair_of_one() -> None:
    """Arms 0, 2, 2, 2; row 0 beats the rest: flow 1 to arm 0, -1 from arm 2 (thirds summed)."""
    batch = tabular_batch([0, 2, 2, 2], [[0, 1], [0, 2], [0, 3]], 4)
    target = make(target="tabular").prepare(batch, 0.0, 0)["target"]
    close(target[0], [0.52, 0.3, 0.18], 1e-12)
    same = tabular_batch([2, 2], [[0, 1]], 2)
    unmoved = make(group_size=2, target="tabular").prepare(same, 0.0, 0)["target"]
    close(unmoved[0], [0.5, 0.3, 0.2], 1e-12)


def test_delta_is_capped_where_the_loser_has_less() -> None:
    """delta_0 .9 > pi_old(loser) .2: 95% of it moves."""
    batch = tabular_batch([0, 2], [[0, 1]], 2)
    target = make(group_size=2, target="tabular", delta_0=0.9).prepare(batch, 0.0, 0)["target"]
    close(target[0], [0.69, 0.3, 0.01], 1e-12)


def test_schedule_of_delta() -> None:
    close(tensor(make(delta_0=0.02, gamma=0.98).delta(10)), 0.02 * 0.98**10, 1e-15)
    close(tensor(make(delta_0=0.02, gamma=0.98, fixed_delta=True).delta(10)), 0.02, 1e-15)
    close(tensor(make(delta_0=0.8, gamma=1.0, relative=True).delta(10)), 0.2, 1e-15)
    batch, _ = fixture_f()
    late = make(delta_0=0.02, gamma=0.5).prepare(batch, 0.9, 2)["target"]
    close(late, [0.25125, 0.24625, 0.24875, 0.25375], 1e-12)


def test_restricted_base_is_the_sampler_on_the_group() -> None:
    """b = softmax of S_old = [-3.5, -1.6, -.8, -2.9]; p = b at theta_old, so the fit is q - b."""
    batch, _ = fixture_f()
    method = make(base="restricted", fit="forward", trust_region=False)
    signal = method.prepare(batch, 0.0, 0)
    base = tensor([-3.5, -1.6, -0.8, -2.9]).softmax(0)
    close(signal["log_base"], base.log().tolist(), 1e-12)
    logp = OLD.clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), batch, signal).value
    push = -torch.autograd.grad(loss, logp)[0][:, 0]
    torch.testing.assert_close(push, signal["target"] - base)


@pytest.mark.parametrize("size", [2, 4])
def test_gradient_at_the_sampler(size: int) -> None:
    """Forward: delta f_i per response; at G = 2 delta, and reverse half artanh(2 delta)."""
    batch, _ = fixture_f_pair() if size == 2 else fixture_f()
    pushes = {}
    for fit in ("forward", "reverse"):
        method = make(group_size=size, fit=fit)
        logp = batch.old_logp.clone().requires_grad_()
        loss = method.loss(PolicyOutput(logp), batch, method.prepare(batch, 0.0, 0)).value
        pushes[fit] = -torch.autograd.grad(loss, logp)[0][:, 0]
    if size == 2:
        close(pushes["forward"], [0.02, -0.02], 1e-12)
        close(pushes["reverse"], [0.020010677, -0.020010677], 1e-9)
    else:
        close(pushes["forward"], [0.005, -0.015, -0.005, 0.015], 1e-12)


def test_a_tied_group_asks_for_nothing() -> None:
    batch, _ = fixture_f()
    tied = replace(batch, pairs=every_pair(torch.zeros(4), 4))
    method = make(fit="forward")
    logp = OLD.clone().requires_grad_()
    loss = method.loss(PolicyOutput(logp), tied, method.prepare(tied, 0.0, 0)).value
    close(loss, 0.0, 1e-12)
    assert torch.autograd.grad(loss, logp)[0].abs().max() < 1e-12


@pytest.mark.parametrize(
    "setting",
    [
        {"group_size": 1},
        {"delta_0": 0.0},
        {"delta_0": 1.0},
        {"gamma": 1.1},
        {"zeta": 0.0},
        {"tau": 0.0},
        {"fit": "both"},
        {"alpha": -0.5},
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        HardPairGRPO.Config.model_validate(setting)
