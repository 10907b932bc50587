"""ROPO: golden loss, bounded slope, and DPO around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pairbench import objectives as o
from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.ropo import ROPO
from tests.support.fixtures import close, fixture_d, tensor
from tests.support.two_steps import two_steps


def test_golden_loss() -> None:
    """Fixture D: m = [.15, -.02] at beta .1, and 4 alpha / (1 + alpha)^2 = .248889.

    -log sigmoid(m) + 14 sigmoid(-m) = [7.096893, 7.773197], whose mean 7.435045 gives 1.850506.
    """
    ropo = ROPO(ROPO.Config(beta=0.1))
    batch, output = fixture_d()
    close(ropo.loss(output, batch, ropo.prepare(batch, 0.0, 0)).value, 1.850506)


@pytest.mark.parametrize("alpha", [2.0, 14.0, 100.0])
def test_a_pair_weighs_at_most_one(alpha: float) -> None:
    """sigmoid(-m) (1 + alpha sigmoid(m)) is largest where sigmoid(m) = (alpha - 1) / (2 alpha)."""
    margin = torch.linspace(-20, 20, 4001, dtype=torch.float64).requires_grad_()
    losses = o.robust_preference_loss(margin, 1.0, alpha)
    weight = -torch.autograd.grad(losses.sum(), margin)[0]
    assert float(weight.max()) <= 1.0 + 1e-12
    assert float(weight.max()) == pytest.approx(1.0, abs=1e-4)
    peak = torch.logit(tensor((alpha - 1) / (2 * alpha)))
    assert float(margin[weight.argmax()].detach()) == pytest.approx(float(peak), abs=0.02)


def test_a_pair_it_is_sure_is_flipped_weighs_less_than_dpos() -> None:
    margin = tensor([-8.0]).requires_grad_()
    robust = o.robust_preference_loss(margin, 1.0, 14.0)
    plain = o.preference_loss(margin, 1.0, "sigmoid")
    ours, dpos = (float(-torch.autograd.grad(loss.sum(), margin)[0]) for loss in (robust, plain))
    assert ours < 0.3 < 0.9 < dpos


def test_ties_cost_nothing() -> None:
    ropo = ROPO(ROPO.Config())
    batch, output = fixture_d()
    none = replace(batch, pairs=torch.zeros(0, 2, dtype=torch.int64))
    close(ropo.loss(output, none, ropo.prepare(none, 0.0, 0)).value, 0.0, 0.0)


def test_what_it_needs_is_dpos() -> None:
    for settings in ({}, {"data": "on-policy", "reference": "sampler"}):
        ropo, dpo = ROPO(ROPO.Config(**settings)), DPO(DPO.Config(**settings))
        assert (ropo.needs, ropo.regime) == (dpo.needs, dpo.regime)


@pytest.mark.parametrize(
    "setting", [{"alpha": 1.0}, {"loss_type": "ipo"}, {"label_smoothing": 0.1}, {"beta": 0.0}]
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        ROPO.Config.model_validate(setting)


@pytest.mark.parametrize(
    "settings", [{}, {"data": "offline", "reference": "sft"}], ids=["on-policy", "offline"]
)
def test_two_steps_on_the_bandit(settings: dict[str, Any]) -> None:
    two_steps(ROPO, **settings)
