"""f-HAL: its golden mixtures, its two halves, and where it can run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench.algorithms.f_hal import FHAL
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from pairbench.tasks.halfcheetah_v4 import HalfCheetah
from tests.algorithms.test_f_grpo import GOLDEN
from tests.support.fixtures import close, fixture_d, fixture_f

OFFLINE = {
    "kl": (0.306415, 0.284994),
    "kl-canonical": (-0.063980, -0.033432),
    "reverse-kl": (-0.062482, -0.032687),
    "pearson": (-0.064487, -0.033697),
    "hellinger": (-0.031605, -0.016524),
    "js": (-0.031594, -0.016519),
    "tv": (-0.016239, -0.008485),
}
"""methods.md A.5: L_FDO on fixture D, and the mixture with f-GRPO's loss on F at lambda .5."""


def fixtures() -> tuple[Batch, PolicyOutput]:
    """Returns F with D's two pairs beside it (one group: `check` would want one pair)."""
    batch, output = fixture_f()
    offline, output.offline = fixture_d()
    return replace(batch, offline=offline), output


def value(**settings: Any) -> torch.Tensor:
    method = FHAL(FHAL.Config.model_validate({"group_size": 4, **settings}))
    batch, output = fixtures()
    return method.loss(output, batch, method.prepare(batch, 0.0, 0)).value


@pytest.mark.parametrize("divergence", OFFLINE)
def test_golden_losses(divergence: str) -> None:
    """u of D's chosen [.1, .02], rejected [-.05, .04]: separate means of g and f* o g."""
    offline, mixed = OFFLINE[divergence]
    close(value(divergence=divergence, lam=1.0), offline)
    close(value(divergence=divergence), mixed)
    close(value(divergence=divergence, lam=0.0), GOLDEN[divergence][1])


def test_chosen_go_up_and_rejected_down() -> None:
    method = FHAL(FHAL.Config(group_size=4, lam=1.0))
    batch, output = fixtures()
    loss = method.loss(output, batch, method.prepare(batch, 0.0, 0)).value
    assert output.offline is not None
    (gradient,) = torch.autograd.grad(loss, output.offline.logp)
    assert (-gradient.sum(1)).sign().tolist() == [1.0, -1.0, -1.0, 1.0]


def test_pairs_that_all_tied_cost_nothing() -> None:
    method = FHAL(FHAL.Config(group_size=4, lam=1.0))
    batch, output = fixtures()
    assert batch.offline is not None
    none = replace(batch.offline, pairs=torch.zeros(0, 2, dtype=torch.int64))
    batch = replace(batch, offline=none)
    close(method.loss(output, batch, method.prepare(batch, 0.0, 0)).value, 0.0, 0.0)


def test_what_it_needs() -> None:
    method = FHAL(FHAL.Config())
    needs = method.needs
    assert (needs.data, needs.feedback, needs.offline) == ("groups+pairs", "scores", True)
    assert method.regime == "on-policy groups, scores, and offline pairs"


def test_control_tasks_say_why_not() -> None:
    reason = HalfCheetah(HalfCheetah.Config()).skip(FHAL(FHAL.Config()))
    assert reason == "f-hal learns from offline pairs, and halfcheetah-v4 has no data set"
