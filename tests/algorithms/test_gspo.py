"""GSPO: TRL's value on fixture F, and what its ratio is."""

from __future__ import annotations

from pairbench.algorithms.gspo import GSPO
from tests.support.fixtures import close
from tests.support.group_methods import on_f, pair_advantages, push


def test_golden_loss() -> None:
    """methods.md D.1 and E: TRL 1.16 at sequence level, eps 3e-4 and 4e-4, sample std + 1e-4."""
    advantage, loss = on_f(GSPO)
    close(advantage, [0.146368, -1.024575, -0.439104, 1.317311])
    close(loss, 0.071005)


def test_a_responses_steps_share_its_push() -> None:
    """At theta_old d s_i / d logp_it = 1 / L_i, so that a row's steps sum up to A / B."""
    close(push(GSPO), [0.146368 / 4, -1.024575 / 4, -0.439104 / 4, 1.317311 / 4])


def test_ties_and_pairs() -> None:
    """Sample std of scores 2 and 0 is sqrt 2."""
    close(push(GSPO, [0.3] * 4), [0.0] * 4, 0.0)
    close(pair_advantages(GSPO, eps=0.0), [2**-0.5, -(2**-0.5)], 1e-12)


def test_short_responses_have_grpos_clip_range() -> None:
    assert GSPO.Config().clip_high == 4e-4
    assert GSPO.Config.model_validate(GSPO.presets["control"]).clip_high == 0.2
    assert GSPO.Config.model_validate(GSPO.presets["language"]).clip_high == 4e-4
