"""Rows that are GRPO but for a term: golden losses of fixture F by hand, and what each changes.

F has ratios e^[.1, .1, -.2], e^[-.1, -.2], e^.5, e^[-.1, .1, .1]; scores [1, 0, .5, 2] and GRPO's
advantages A = [.146368, -1.024575, -.439104, 1.317311].
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.algorithms.dapo import DAPO
from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.gvpo import GVPO
from pairbench.algorithms.rebel import REBEL
from pairbench.policy import PolicyOutput
from pairbench.registry import get_algorithm
from tests.support.fixtures import LOGP, OLD, close, fixture_f, tensor
from tests.support.group_methods import make, on_f, push


def row(name: str) -> type[Algorithm]:
    cls = get_algorithm(name)
    assert issubclass(cls, Algorithm)
    return cls


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("dapo", {}, -0.228570),  # no ratio but row 2's is above 1.2, and its A is negative
        ("bnpo", {}, -0.228570),
        ("lite-ppo", {}, -0.228570),  # one group: its deviation is the batch's
        ("cispo", {}, 0.254455),
        ("sapo", {}, -0.014579),
        ("luspo", {}, -0.405030),  # ratios [1, .860708, 1.648721, 1.033895], lengths [3, 2, 1, 3]
        ("reinforce-plus-plus", {"kl_coef": 0.1}, -0.008964),
        ("reinforce-plus-plus-baseline", {"beta": 0.0}, -0.005302),
        ("reinforce-plus-plus-baseline", {"beta": 0.1}, -0.004191),  # + .1 x k2 .011111
        ("opo", {}, -0.004284),
        ("gpg", {}, 0.201389),
        ("gmpo", {"clip_low": 0.15, "clip_high": 0.15}, 0.029954),
        ("vespo", {}, 0.256442),  # phi = [1, .682743, 1.224530, .890909]
        ("dppo-tv", {"clip_low": 0.05, "clip_high": 0.05}, 0.364716),
        ("dppo-kl", {"clip_low": 0.006, "clip_high": 0.006}, 0.292610),
        ("rebel", {"beta": 0.5}, 1.387917),  # six pairs of .5 x [0, -.3, .5, .1] - [1, 0, .5, 2]
    ],
)
def test_golden_losses(name: str, settings: dict[str, Any], expected: float) -> None:
    close(on_f(row(name), **settings)[1], expected)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dapo", {"clip_high": 0.28, "aggregation": "dapo"}),
        ("cispo", {"aggregation": "cispo"}),
        ("sapo", {"aggregation": "sapo"}),
        ("luspo", {"aggregation": "luspo", "ratio_level": "sequence_mean",
                   "clip_low": 3e-4, "clip_high": 4e-4}),
        ("lite-ppo", {"aggregation": "dapo", "std": "batch"}),
        ("bnpo", {"aggregation": "bnpo"}),
    ],
)  # fmt: skip
def test_a_row_by_name_is_grpo_at_its_settings(name: str, settings: dict[str, Any]) -> None:
    row_loss, grpo_loss = on_f(row(name))[1], on_f(GRPO, beta=0.0, **settings)[1]
    assert torch.equal(row_loss, grpo_loss)


# dapo


def two_groups(first: list[float], second: list[float]) -> Any:
    batch, _ = fixture_f()
    return replace(
        batch, group=torch.tensor([0, 0, 1, 1]), score=tensor([*first, *second]), pairs=None
    )


def test_dapo_leaves_out_groups_that_say_nothing() -> None:
    dapo = DAPO(DAPO.Config(group_size=2))
    told = dapo.select(two_groups([0.3, 0.3], [1.0, 0.0]))
    assert len(told) == 2 and told.need("score").tolist() == [1.0, 0.0]
    assert told.group.tolist() == [0, 0]
    assert len(dapo.select(two_groups([0.3, 0.3], [0.0, 0.0]))) == 4  # then all stay
    every = DAPO(DAPO.Config(group_size=2, dynamic=False))
    assert len(every.select(two_groups([0.3, 0.3], [1.0, 0.0]))) == 4


def test_dapo_prices_the_last_steps_before_the_limit() -> None:
    """Lengths [3, 2, 1, 3], limit 3, cache 2: scores fall by [1, .5, 0, 1] to [0, -.5, .5, 1]."""
    advantage, _ = on_f(DAPO, max_length=3, cache=2)
    close(advantage, [-0.387238, -1.161715, 0.387238, 1.161715])


def test_a_cache_is_of_a_known_length() -> None:
    for settings in ({"cache": 2}, {"cache": 4, "max_length": 3}):
        with pytest.raises(ValidationError, match="max_length"):
            DAPO.Config.model_validate(settings)


# reinforce-plus-plus


def test_the_return_of_a_step_is_what_is_still_to_come() -> None:
    """Steps' KLs of row 3 are [.2, -.3, .1]: at weight .1 the returns are [2, 2.02, 1.99]."""
    batch, _ = fixture_f()
    method = make(row("reinforce-plus-plus"), kl_coef=0.1)
    advantage = method.prepare(batch, 0.0, 0)["advantage"]
    close(advantage[1, :2], [-1.331350, -1.306771])
    close((advantage * batch.mask).sum(), 0.0, 1e-12)
    scale = float(advantage[3, 1] - advantage[3, 2]) / 0.03
    close((advantage[3] - advantage[3, 0]) / scale, [0.0, 0.02, -0.01], 1e-9)


def test_the_baseline_form_takes_the_batchs_deviation() -> None:
    batch, _ = fixture_f()
    name = "reinforce-plus-plus-baseline"
    advantage = make(row(name)).prepare(batch, 0.0, 0)["advantage"]
    close(advantage[:, 0], [-0.068761, -1.306467, -0.687614, 1.168944])
    plain = make(row(name), std="none").prepare(batch, 0.0, 0)["advantage"]
    close(plain[:, 0], [0.125, -0.875, -0.375, 1.125], 1e-12)


# opo, gpg, gmpo, rebel


def test_opos_baseline_counts_a_response_by_its_length() -> None:
    """(3 x 1 + 2 x 0 + 1 x .5 + 3 x 2) / 9 = 1.055556."""
    advantage, _ = on_f(row("opo"))
    close(advantage, [1 - 9.5 / 9, -9.5 / 9, 0.5 - 9.5 / 9, 2 - 9.5 / 9], 1e-12)
    close(push(row("opo"), [0.3] * 4), [0.0] * 4, 0.0)


def test_gpg_counts_only_groups_that_say_something() -> None:
    gpg = make(row("gpg"), group_size=2)
    close(
        gpg.prepare(two_groups([0.3, 0.3], [1.0, 0.0]), 0.0, 0)["advantage"].view(-1),
        [0.0, 0.0, 1.0, -1.0],  # +- .5, times 4 / 2
        1e-12,
    )


def test_gmpos_slope_is_the_policy_gradient_at_its_sampler() -> None:
    """A / L a step: a row's steps together push A / B."""
    advantage, _ = on_f(row("gmpo"))
    close(push(row("gmpo")), (advantage / 4).tolist(), 1e-12)


def test_rebel_is_the_mean_over_pairs() -> None:
    _, loss = on_f(REBEL, beta=0.5)
    close(loss, float(4.0 * on_f(GVPO, beta=0.5)[1].detach()), 1e-12)
    gap, score = (LOGP - OLD).sum(1).tolist(), [1.0, 0.0, 0.5, 2.0]
    pairs = [(0.5 * (gap[i] - gap[j]) - (score[i] - score[j])) ** 2
             for i in range(4) for j in range(i)]  # fmt: skip
    close(loss, sum(pairs) / 6, 1e-12)


# vespo and dppo


def test_vespos_weight_is_one_at_the_sampler_and_fades_on_both_sides() -> None:
    advantage, _ = on_f(row("vespo"))
    close(push(row("vespo")), (advantage * tensor([3, 2, 1, 3]) / 9).tolist(), 1e-12)

    def weight(shift: float) -> float:
        """The push on row 3, whose three steps' log-ratios sum to the shift, over A / 9."""
        batch, _ = fixture_f()
        method = make(row("vespo"))
        logp = (OLD + shift / 3).requires_grad_()
        loss = method.loss(PolicyOutput(logp), batch, method.prepare(batch, 0.0, 0)).value
        return float(-torch.autograd.grad(loss, logp)[0][3, 0]) / float(advantage[3]) * 9

    for shift in (-1.0, 0.5):
        expected = math.exp(2 * shift + 3 * (1 - math.exp(shift)))
        assert weight(shift) == pytest.approx(expected, rel=1e-9)
        assert expected < 1


@pytest.mark.parametrize("name", ["dppo-tv", "dppo-kl"])
def test_a_rare_steps_ratio_may_be_large_and_a_likely_ones_may_not(name: str) -> None:
    """Row 3 has A > 0. From .001 to .01 is a ratio of 10, from .4 to .79 one of 1.98."""

    def slope(old: float, new: float) -> Tensor:
        batch, _ = fixture_f()
        before, now = OLD.clone(), OLD.clone()
        before[3, 0], now[3, 0] = math.log(old), math.log(new)
        now.requires_grad_()
        batch = replace(batch, old_logp=before)
        method = make(row(name))
        loss = method.loss(PolicyOutput(now), batch, method.prepare(batch, 0.0, 0)).value
        return -torch.autograd.grad(loss, now)[0][3, 0]

    close(slope(0.001, 0.01), 10 * 1.317311 / 9)
    close(slope(0.4, 0.79), 0.0, 0.0)
    close(slope(0.79, 0.4), 1.317311 / 9 * 0.4 / 0.79)  # back to where A pushes: no mask
    assert make(row(name)).needs.probabilities
