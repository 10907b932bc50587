"""Distilled: maximum likelihood on what it is given."""

from __future__ import annotations

from pairbench.algorithms.distilled import Distilled
from tests.support.fixtures import close, fixture_f


def test_golden_loss() -> None:
    """Nine real steps of F, whose log-probabilities sum to -8.5."""
    batch, output = fixture_f()
    method = Distilled(Distilled.Config())
    assert method.needs.demonstrations
    close(method.loss(output, batch, method.prepare(batch, 0.0, 0)).value, 8.5 / 9, 1e-12)
