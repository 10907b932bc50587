"""AMIR-GRPO: golden losses, margins and ties."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench import objectives as o
from pairbench.algorithms.amir_grpo import AMIRGRPO
from pairbench.algorithms.grpo import GRPO
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, SCORE, close, fixture_f, fixture_f_pair, tensor
from tests.support.two_steps import two_steps

TOTAL = tensor([-3.5, -1.9, -0.3, -2.8])


def make(**settings: Any) -> AMIRGRPO:
    return AMIRGRPO(AMIRGRPO.Config(**{"group_size": 4, "beta": 0.0, **settings}))


def test_golden_losses() -> None:
    """A margin of .4 ranks all six pairs; .022812 + .01 x .810358 = .030916."""
    close(o.ranked_pairs_loss(TOTAL, SCORE, 4, 0.2, 0.4), 0.810358)
    batch, output = fixture_f()
    method = make(margin=0.4)
    close(method.loss(output, batch, method.prepare(batch, 0.0, 0)).value, 0.030916)


def test_a_margin_leaves_close_pairs_out() -> None:
    """Beyond 1.5 only rows 3 over 1: -log sigmoid(.2 (-2.8 + 1.9)) = log(1 + e^.18)."""
    close(o.ranked_pairs_loss(TOTAL, SCORE, 4, 0.2, 1.5), math.log1p(math.exp(0.18)))


@pytest.mark.parametrize(("score", "margin"), [([0.5] * 4, 0.0), ([1.0, 0.0, 0.5, 2.0], 2.0)])
def test_without_ranked_pairs_it_is_grpo(score: list[float], margin: float) -> None:
    """Ties, or a margin that no difference exceeds."""
    batch, output = fixture_f()
    batch = replace(batch, score=tensor(score))
    method, grpo = make(margin=margin), GRPO(GRPO.Config(group_size=4, beta=0.0))
    values = [m.loss(output, batch, m.prepare(batch, 0.0, 0)).value for m in (method, grpo)]
    close(values[0] - values[1], 0.0, 0.0)


def test_a_pair_pushes_its_two_apart() -> None:
    """G = 2 at equal S: the slope of lambda x the pair's loss is +-lambda beta / 2 a token."""
    batch, _ = fixture_f_pair()
    even = replace(batch, mask=torch.ones_like(batch.mask), old_logp=torch.zeros_like(batch.mask))
    tied = AMIRGRPO(AMIRGRPO.Config(group_size=2, beta=0.0, margin=0.0, lam=0.5, std="none"))
    logp = even.old_logp.clone().requires_grad_()
    signal = {**tied.prepare(even, 0.0, 0), "advantage": torch.zeros(2, 1, dtype=torch.float64)}
    slope = torch.autograd.grad(tied.loss(PolicyOutput(logp), even, signal).value, logp)[0]
    close(slope[:, 0], [-0.05, 0.05], 1e-12)


def test_against_the_reference_the_pairs_have_log_ratios() -> None:
    """S - S_ref = [.1, 0, .2, .1]."""
    batch, output = fixture_f()
    method = make(margin=0.4, pair_reference=True)
    assert method.needs.reference and not make().needs.reference
    plain = make(lam=0.0)
    values = [m.loss(output, batch, m.prepare(batch, 0.0, 0)).value for m in (method, plain)]
    pairs = o.ranked_pairs_loss(tensor([0.1, 0.0, 0.2, 0.1]), SCORE, 4, 0.2, 0.4)
    torch.testing.assert_close(values[0] - values[1], 0.01 * pairs)


def test_padding_never_matters() -> None:
    batch, output = fixture_f()
    method = make(margin=0.4)
    signal = method.prepare(batch, 0.0, 0)
    padded = PolicyOutput(output.logp - 5.0 * (1 - batch.mask))
    shifted = replace(batch, old_logp=OLD - 5.0 * (1 - batch.mask))
    close(method.loss(padded, shifted, signal).value, 0.030916)


def test_two_steps_on_the_bandit() -> None:
    two_steps(AMIRGRPO)
