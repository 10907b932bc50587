"""ORPO: golden value of fixture D."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithms.orpo import ORPO
from tests.support.fixtures import close, fixture_d


@pytest.mark.parametrize(("lam", "expected"), [(0.0, 1.333333), (0.1, 1.396207)])
def test_golden_losses(lam: float, expected: float) -> None:
    """NLL 20 / 15 tokens; log odds ratios [-.048050, .334043]: .1 x .628740 (TRL's term)."""
    orpo = ORPO(ORPO.Config(lam=lam))
    batch, output = fixture_d()
    close(orpo.loss(output, batch, orpo.prepare(batch, 0.0, 0)).value, expected)


def test_ties_cost_nothing() -> None:
    orpo = ORPO(ORPO.Config())
    batch, output = fixture_d()
    none = replace(batch, pairs=torch.zeros(0, 2, dtype=torch.int64))
    loss = orpo.loss(output, none, orpo.prepare(none, 0.0, 0)).value
    close(loss, 0.0, 1e-15)
    assert not torch.autograd.grad(loss, output.logp)[0].any()


def test_it_needs_probabilities_and_no_reference() -> None:
    needs = ORPO(ORPO.Config()).needs
    assert needs.probabilities
    assert not needs.reference


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="lam"):
        ORPO.Config(lam=-0.1)
