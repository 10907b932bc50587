"""GRPO: TRL's numbers on fixture F for every variant that is a setting, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithms.grpo import GRPO
from pairbench.policy import PolicyOutput
from tests.support.fixtures import LOGP, MASK, OLD, REF, close, fixture_f


def value(**settings: Any) -> torch.Tensor:
    """Returns the loss of fixture F under `settings`; TRL's normalisation unless given."""
    grpo = GRPO(GRPO.Config(**{"group_size": 4, "beta": 0.0, **settings}))
    batch, output = fixture_f()
    return grpo.loss(output, batch, grpo.prepare(batch, 0.0, 0)).value


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"aggregation": "grpo"}, 0.022812),
        ({"aggregation": "bnpo"}, -0.228570),
        ({"aggregation": "dapo"}, -0.228570),
        ({"aggregation": "dr_grpo"}, -0.171428),
        ({"aggregation": "dr_grpo", "max_length": 6}, -0.171428 / 2),
        ({"aggregation": "dr_grpo", "std": "none"}, -0.146402),
        ({"beta": 0.04, "penalty": "k3"}, 0.023279),
        ({"beta": 0.04, "penalty": "k3-bias-corrected"}, 0.023410),
        ({"beta": 0.04, "penalty": "direct"}, 0.023410),
        ({"ratio_level": "sequence_mean", "clip_low": 3e-4, "clip_high": 4e-4}, 0.071005),
        ({"aggregation": "cispo", "cispo_cap": 5.0}, 0.254455),
        ({"ratio_level": "trajectory", "std": "population", "eps": 0.0}, -0.016919),
    ],
)
def test_golden_losses(settings: dict[str, Any], expected: float) -> None:
    """Values of TRL 1.16's own `_compute_loss` on fixture F (eps .2; sample std + 1e-4).

    "direct" without an exact divergence is the ratio-weighted k3, TRL's default; the last row is
    TIC-GRPO's whole-response ratio.
    """
    close(value(**settings), expected)


def test_a_direct_penalty_is_the_exact_divergence_where_the_policy_gives_it() -> None:
    """Row means of a constant .5 are .5, so beta .1 adds .05."""
    grpo = GRPO(GRPO.Config(group_size=4, beta=0.1, penalty="direct"))
    batch, output = fixture_f()
    exact = PolicyOutput(output.logp, kl_ref=lambda: torch.full_like(LOGP, 0.5))
    close(grpo.loss(exact, batch, grpo.prepare(batch, 0.0, 0)).value, 0.022812 + 0.05)


def test_the_trust_region_adds_the_hinge_of_the_divergence_to_the_sampler() -> None:
    """Token k3 to pi_old .019892: alpha .5 and threshold .01 add .004946, threshold .05 nothing."""
    plain = value().detach()
    close(value(trust_region=True, threshold=0.01) - plain, 0.004946)
    close(value(trust_region=True, threshold=0.05) - plain, 0.0, 1e-12)
    close(value(trust_region=False, threshold=0.01) - plain, 0.0, 1e-12)


def test_clip_fraction_counts_ratios_outside_the_range() -> None:
    """One of twelve places: row 2's ratio e^.5; e^.2 and e^-.2 = .8187 lie inside .8 to 1.25."""
    grpo = GRPO(GRPO.Config(group_size=4, beta=0.0, clip_high=0.25))
    batch, output = fixture_f()
    loss = grpo.loss(output, batch, grpo.prepare(batch, 0.0, 0))
    close(loss.diagnostics["clip_fraction"], 1 / 12)


def test_the_gradient_at_the_sampler_is_the_policy_gradient() -> None:
    """At theta_old nothing is clipped: d loss / d logp = -A / (G L)."""
    grpo = GRPO(GRPO.Config(group_size=4, beta=0.0, std="none"))
    batch, _ = fixture_f()
    logp = OLD.clone().requires_grad_()
    loss = grpo.loss(PolicyOutput(logp), batch, grpo.prepare(batch, 0.0, 0))
    advantage = torch.tensor([0.125, -0.875, -0.375, 1.125], dtype=torch.float64)
    expected = -advantage.unsqueeze(1) * MASK / MASK.sum(1, keepdim=True) / 4
    torch.testing.assert_close(torch.autograd.grad(loss.value, logp)[0], expected)


def test_padding_never_matters() -> None:
    batch, _ = fixture_f()
    grpo = GRPO(GRPO.Config(group_size=4, beta=0.04, ratio_level="trajectory", trust_region=True))
    padding = 3.0 * (1 - MASK)
    other = replace(batch, old_logp=OLD - padding, ref_logp=REF + padding)
    losses = [
        grpo.loss(PolicyOutput(LOGP + extra), b, grpo.prepare(b, 0.0, 0)).value
        for b, extra in ((batch, 0.0), (other, -padding))
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_a_reference_is_needed_only_for_the_penalty() -> None:
    assert GRPO(GRPO.Config(beta=0.04)).needs.reference
    assert not GRPO(GRPO.Config(beta=0.0)).needs.reference


@pytest.mark.parametrize(
    "setting",
    [
        {"group_size": 1},
        {"clip_low": 1.0},
        {"clip_high": 0.0},
        {"clip_high": 1.5},
        {"beta": -0.1},
        {"eps": -1e-4},
        {"delta": 0.5},
        {"delta": 1.1},
        {"aggregation": "mean"},
        {"lr": 0.0},
        {"alpha": -1.0},
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        GRPO.Config.model_validate(setting)
