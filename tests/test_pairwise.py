"""Losses of pairs and of labels: golden values of fixture D by hand, and what each is for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch
from pairbench.pairwise import LabelMethod, PairMethod
from pairbench.policy import PolicyOutput
from pairbench.registry import get_algorithm
from tests.support.fixtures import close, fixture_d, fixture_f, tensor

BETA = 0.5
GOLDEN: list[tuple[str, dict[str, Any], float]] = [
    ("slic", {}, 0.675),  # mean of 1 - .75 and 1 + .1
    ("ipo", {}, 0.845),  # mean of (1.5 - 1)^2 and (-.2 - 1)^2
    ("cdpo", {"label_smoothing": 0.1}, 0.598134),  # .9 x .565634 + .1 x (.565634 + .325)
    ("robust-dpo", {"label_smoothing": 0.1}, 0.525009),  # .565634 - .1 x .325 / .8
    ("exo-pair", {"label_smoothing": 0.1}, 0.374874),
    ("discopop", {"tau": 0.5}, 0.681787),
    ("dpo-norm", {"beta": 5.0}, 0.627392),  # mean margins [.141667, -.06]
    ("nca-pair", {}, 1.332375),
    ("bco", {"shift": False}, 1.246276),
    ("bco", {}, 1.241621),  # d = .5 (.5 x .6 - .5 x .05) = .1375
    ("sppo-hard", {}, 1.425),  # mean of 0 + .25 and .64 + 1.96
    ("aot", {}, 0.565634),  # sorted margins [-.5, 2] less the reference's [-.3, .5] = [-.2, 1.5]
    ("aot-unpaired", {}, 0.543869),  # sorted [.2, 1] less [-.5, .4] = [.7, .6]
    ("aot-unpaired", {"label_smoothing": 0.2}, 0.608869),  # + .2 x .5 x .65
    ("apo-zero", {}, 0.920109),
    ("apo-down", {}, 0.996620),
    ("sft", {}, 4 / 3),  # 20 nats, 15 steps
    ("rpo", {}, 0.565634 + 4 / 3),
    ("rpo", {"alpha": 0.3}, 0.565634 + 0.4),
    ("dpop", {}, 0.565634),  # no preferred response lost likelihood
    ("cpo", {}, 0.569601 + 4 / 3),  # margins of log-probabilities [2, -.5]
    ("simpo", {"beta": 2.0}, 1.152840),  # means' margins [-.033333, .275], less gamma 1
    ("cpo-simpo", {"beta": 2.0}, 1.152840 + 0.05 * 4 / 3),
    ("kto", {}, 0.459917),  # z = (1 + .2 - .5 + .4) / 4 = .275
    ("kto", {"desirable": 1.5, "undesirable": 0.5}, 0.459891),
]  # fmt: skip
"""Log-ratios of D: preferred [1, .2], rejected [-.5, .4], so margins [1.5, -.2]; beta .5.

DPO's loss is .565634, and -log sigmoid(-z) is z more than -log sigmoid(z).
"""

NAMES = sorted({name for name, _, _ in GOLDEN})


def make(name: str, **settings: Any) -> Algorithm:
    cls = get_algorithm(name)
    assert issubclass(cls, Algorithm)
    return cls(cls.Config.model_validate(settings))


def value(method: Algorithm, batch: Batch, output: PolicyOutput) -> Tensor:
    return method.loss(output, batch, method.prepare(batch, 0.0, 0)).value


@pytest.mark.parametrize(
    ("name", "settings", "expected"), GOLDEN, ids=[f"{name}-{more}" for name, more, _ in GOLDEN]
)
def test_golden_losses(name: str, settings: dict[str, Any], expected: float) -> None:
    close(value(make(name, **{"beta": BETA, **settings}), *fixture_d()), expected)


@pytest.mark.parametrize("name", NAMES)
def test_ties_cost_nothing(name: str) -> None:
    batch, output = fixture_d()
    none = replace(batch, pairs=torch.zeros(0, 2, dtype=torch.int64))
    loss = value(make(name), none, output)
    close(loss, 0.0, 0.0)
    assert not torch.autograd.grad(loss, output.logp)[0].any()


@pytest.mark.parametrize("name", NAMES)
def test_against_its_sampler_a_preferred_response_goes_up_or_its_rival_down(name: str) -> None:
    """At log-ratios of 0 the slope of the margin is negative: of each loss, at its presets."""
    cls = get_algorithm(name)
    method = make(name, **cls.presets["tabular"])
    batch, output = fixture_d()
    push = -torch.autograd.grad(value(method, batch, output), output.logp)[0].sum(1)
    won, lost = push[torch.tensor([[0, 1], [3, 2]])].unbind(1)
    assert float((won - lost).min()) > 1e-3


def test_dpop_pays_for_a_preferred_response_that_falls() -> None:
    """Pairs the other way round: preferred log-ratios [-.5, .4], so .5 x (-1.5 - 2 x .5) = -1.25.

    The mean of -log sigmoid of -1.25 and of .1 is (1.501929 + .644397) / 2.
    """
    batch, output = fixture_d()
    flipped = replace(batch, pairs=torch.tensor([[1, 0], [2, 3]]))
    close(value(make("dpop", beta=BETA, lam=2.0), flipped, output), 1.073163)


def test_robust_dpo_is_dpo_once_its_labels_are_flipped_as_often_as_it_says() -> None:
    batch, output = fixture_d()
    flipped = replace(batch, pairs=torch.tensor([[1, 0], [2, 3]]))
    share = 0.3
    robust = make("robust-dpo", beta=BETA, label_smoothing=share)
    mean = (1 - share) * value(robust, batch, output) + share * value(robust, flipped, output)
    close(mean, float(value(make("dpo", beta=BETA), batch, output).detach()), 1e-12)


@pytest.mark.parametrize(("tau", "down"), [(0.05, True), (0.1, True), (0.11, False), (0.5, False)])
def test_discopop_begins_downhill_the_wrong_way_at_its_papers_tau(tau: float, down: bool) -> None:
    """The slope in z at 0 is (1 - log 2) / 4 tau - 3 / 4, above 0 where tau < .1023."""
    method = make("discopop", tau=tau, data="on-policy", reference="sampler", beta=1.0)
    batch, output = fixture_d()
    slope = torch.autograd.grad(value(method, batch, output), output.logp)[0][0, 0]
    close(slope, ((1.0 - math.log(2.0)) / (4.0 * tau) - 0.75) / 2.0, 1e-9)  # of two pairs
    assert (float(slope) > 0) == down


# labels without pairs


def test_labels_from_scores_are_those_above_the_groups_mean() -> None:
    """F: scores [1, 0, .5, 2], mean .875; log-ratios [.1, 0, .2, .1] are those of S to S_ref."""
    batch, output = fixture_f()
    method = make("bco", data="scores", group_size=4, shift=False, beta=1.0)
    signal = method.prepare(batch, 0.0, 0)
    close(signal["label"], [1.0, -1.0, -1.0, 1.0], 0.0)
    expected = math.log1p(math.exp(-0.1)) + (math.log(2.0) + math.log1p(math.exp(0.2))) / 2
    close(method.loss(output, batch, signal).value, expected, 1e-12)
    close(
        make("kto", data="scores", group_size=4, threshold=1.0).prepare(batch, 0.0, 0)["label"],
        [-1.0, -1.0, -1.0, 1.0],
        0.0,
    )


def test_a_tied_group_has_no_labels() -> None:
    batch, output = fixture_f()
    tied = replace(batch, score=tensor([0.3] * 4))
    for name in ("kto", "bco"):
        close(value(make(name, data="scores", group_size=4), tied, output), 0.0, 0.0)


def test_kto_takes_the_exact_kl_where_the_policy_has_it() -> None:
    """z = mean over responses of the sum over steps: here .1 a step, 31 steps, 4 responses."""
    batch, output = fixture_d()
    exact = PolicyOutput(output.logp, kl_ref=torch.full_like(batch.mask, 0.1))
    z, total = 0.1 * 31 / 4, 0.0
    for ratio, sign in ((1.0, 1), (0.2, 1), (-0.5, -1), (0.4, -1)):
        total += 1.0 / (1.0 + math.exp(-BETA * sign * (z - ratio)))
    close(value(make("kto", beta=BETA), batch, exact), total / 4, 1e-12)


def test_kto_never_takes_less_than_nothing_for_the_kl() -> None:
    batch, output = fixture_d()
    lower = PolicyOutput(output.logp - batch.mask)  # every log-ratio falls by its length
    kto = make("kto", beta=BETA)
    expected = sum(
        1.0 / (1.0 + math.exp(BETA * sign * ratio))
        for ratio, sign in ((1 - 10, 1), (0.2 - 5, 1), (-0.5 - 12, -1), (0.4 - 4, -1))
    )
    close(value(kto, batch, lower), expected / 4, 1e-12)


# what they need


@pytest.mark.parametrize("name", NAMES)
def test_what_it_needs_follows_where_pairs_come_from(name: str) -> None:
    free = name in ("cpo", "simpo", "cpo-simpo", "sft")
    needs = make(name).needs
    assert (needs.data, needs.offline, needs.queries) == ("pairs", True, "none")
    assert needs.reference is not free
    fresh = make(name, data="on-policy").needs
    assert (fresh.data, fresh.offline, fresh.queries) == ("pairs", False, "best-worst")
    if not free:
        assert not make(name, reference="sampler").needs.reference


def test_labels_from_scores_need_groups() -> None:
    for name in ("kto", "bco"):
        needs = make(name, data="scores").needs
        assert (needs.data, needs.feedback, needs.reference) == ("groups", "scores", True)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("simpo", {"reference": "sft"}),
        ("simpo", {"gamma": -1.0}),
        ("slic", {"beta": 0.0}),
        ("slic", {"data": "scores"}),
        ("slic", {"group_size": 1}),
        ("exo-pair", {"label_smoothing": 0.0}),
        ("robust-dpo", {"label_smoothing": 0.5}),
        ("discopop", {"tau": 1.0}),
        ("kto", {"data": "none"}),
    ],
)
def test_bad_settings_are_refused(name: str, setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        make(name, **setting)


def test_they_are_of_the_two_kinds() -> None:
    kinds = {name: get_algorithm(name) for name in NAMES}
    labels = {name for name, cls in kinds.items() if issubclass(cls, LabelMethod)}
    assert labels == {"kto", "bco"}
    pairs = {name for name, cls in kinds.items() if issubclass(cls, PairMethod)}
    assert set(NAMES) - labels - pairs == {"ipo", "cdpo"}  # settings of dpo
