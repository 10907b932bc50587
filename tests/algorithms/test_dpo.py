"""DPO and IPO: golden values of fixture D, references, ties."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithms.dpo import DPO
from pairbench.policy import PolicyOutput
from tests.support.fixtures import close, fixture_d


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.662077),
        ({"label_smoothing": 0.1}, 0.668577),
        ({"loss_type": "ipo"}, 19.645),
        ({"loss_type": "ipo-mean"}, 24.603501),
    ],
)
def test_golden_losses(settings: dict[str, Any], expected: float) -> None:
    """Margins [1.5, -.2] of summed log-ratios, beta .1; ipo-mean divides each sum by its length."""
    dpo = DPO(DPO.Config(beta=0.1, **settings))
    batch, output = fixture_d()
    close(dpo.loss(output, batch, dpo.prepare(batch, 0.0, 0)).value, expected)


def test_against_its_sampler_the_first_loss_is_that_of_a_coin() -> None:
    """D's batch was drawn by the policy itself: all margins 0, loss log 2."""
    dpo = DPO(DPO.Config(reference="sampler", data="on-policy"))
    batch, output = fixture_d()
    loss = dpo.loss(output, batch, dpo.prepare(batch, 0.0, 0)).value
    close(loss, math.log(2.0), 1e-12)
    push = -torch.autograd.grad(loss, output.logp)[0][:, 0]
    close(push, [0.025, -0.025, -0.025, 0.025], 1e-12)  # beta .1 x sigmoid(0) / 2 pairs


def test_ties_cost_nothing() -> None:
    dpo = DPO(DPO.Config())
    batch, output = fixture_d()
    none = replace(batch, pairs=torch.zeros(0, 2, dtype=torch.int64))
    loss = dpo.loss(output, none, dpo.prepare(none, 0.0, 0)).value
    close(loss, 0.0, 1e-15)
    assert not torch.autograd.grad(loss, output.logp)[0].any()
    assert batch.pairs is not None
    one = replace(batch, pairs=batch.pairs[:1])
    value = dpo.loss(output, one, dpo.prepare(one, 0.0, 0)).value
    close(value, math.log(1.0 + math.exp(-0.15)), 1e-12)


def test_what_it_needs_follows_where_pairs_come_from() -> None:
    offline = DPO(DPO.Config()).needs
    assert (offline.data, offline.offline, offline.queries, offline.reference) == (
        "pairs",
        True,
        "none",
        True,
    )
    fresh = DPO(DPO.Config(data="on-policy", reference="sampler")).needs
    assert (fresh.offline, fresh.queries, fresh.reference) == (False, "best-worst", False)
    assert DPO(DPO.Config()).regime == "offline pairs"
    assert DPO(DPO.Config(data="on-policy")).regime == "fresh on-policy pairs"


@pytest.mark.parametrize(
    "setting",
    [{"beta": 0.0}, {"label_smoothing": 0.5}, {"loss_type": "hinge"}, {"group_size": 1}],
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        DPO.Config.model_validate(setting)


def test_the_margin_ignores_padding() -> None:
    dpo = DPO(DPO.Config())
    batch, output = fixture_d()
    padded = PolicyOutput(output.logp - 5.0 * (1 - batch.mask))
    close(dpo.loss(padded, batch, dpo.prepare(batch, 0.0, 0)).value, 0.662077)
