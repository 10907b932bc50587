"""TIC-GRPO: its value on fixture F, and the gradient that its ratio corrects."""

from __future__ import annotations

import torch

from pairbench.algorithms.tic_grpo import TICGRPO
from tests.support.fixtures import LOGP, MASK, OLD, close, fixture_f
from tests.support.group_methods import make, on_f, pair_advantages, push


def test_golden_loss() -> None:
    """methods.md E: -mean min(rho A, clip(rho) A), rho = [1, .740818, 1.648721, 1.105171]."""
    advantage, loss = on_f(TICGRPO, eps=0.0)
    close(advantage, [0.169031, -1.183216, -0.507093, 1.521278])
    close(loss, -0.016919)


def test_within_the_clip_the_gradient_is_importance_corrected() -> None:
    """Every step of row i is pushed by rho_i A_i / B: rows 0 and 3 of F are not clipped."""
    method = make(TICGRPO, eps=0.0)
    batch, output = fixture_f()
    signal = method.prepare(batch, 0.0, 0)
    (gradient,) = torch.autograd.grad(method.loss(output, batch, signal).value, output.logp)
    ratio = ((LOGP - OLD) * MASK).sum(1).exp()
    expected = ratio * signal["advantage"][:, 0] / 4
    for row in (0, 3):
        close(-gradient[row], [float(expected[row])] * 3, 1e-12)


def test_ties_and_pairs() -> None:
    close(push(TICGRPO, [0.3] * 4), [0.0] * 4, 0.0)
    close(pair_advantages(TICGRPO, eps=0.0), [1.0, -1.0], 1e-12)
    assert not TICGRPO(TICGRPO.Config()).needs.reference
